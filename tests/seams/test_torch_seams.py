"""Every layer and every verb where they meet tools that run, copy or record a model: see `torch_sites`."""

import copy
import functools
import inspect
import pickle
import re
import threading

import pytest
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch_sites import LAYERS, VERBS

from thinned import Key
from thinned.torch import functional, keyed, nn, set_step
from thinned.torch._site import Site


def old(test):
    """What torch means to give up, torch.jit, which also warns of every size that a check reads."""
    for warning in ("`torch.jit:DeprecationWarning", "Converting a tensor to:torch.jit.TracerWarning"):
        test = pytest.mark.filterwarnings(f"ignore:{warning}")(test)
    return test


every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


def flat(result):
    """All numbers of a result, in one row."""
    return torch.cat([leaf.detach().reshape(-1).double() for leaf in tree_leaves(result)])


def equal(one, other):
    return torch.equal(flat(one), flat(other))


def seeded(call, *inputs):
    torch.manual_seed(7)
    return call(*inputs)


def around(site, inputs):
    """A model with the site in it, called with as many tensors as the site."""
    names = [f"x{i}" for i in range(len(tree_leaves(inputs)))]
    tree = torch.utils._pytree.tree_unflatten(names, torch.utils._pytree.tree_structure(inputs))
    space = {}
    arguments = repr(tree).replace("'", "")
    exec(f"def forward(self, {', '.join(names)}): return self.site(*{arguments})", space)
    model = type("Around", (torch.nn.Module,), {"forward": space["forward"]})()
    model.site = site
    return model


def test_every_layer_is_listed():
    sites = {
        name
        for name in nn.__all__
        if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), Site)
    }
    assert sites == set(LAYERS)


def test_every_entry_is_of_its_layer():
    assert [layer.kind.__name__ for layer in LAYERS.values()] == list(LAYERS)


def test_every_layer_that_writes_in_place_says_so():
    takes = {name for name in LAYERS if "inplace" in inspect.signature(getattr(nn, name)).parameters}
    assert takes == {name for name, layer in LAYERS.items() if layer.inplace}


def test_every_verb_is_listed():
    assert set(functional.__all__) - {"keep_mask"} == set(VERBS)


@every_layer
def test_a_layer_drops(layer):
    """What all other rows stand on: training differs from evaluation, and one call from the next."""
    site, x = layer.make(), layer.inputs()
    assert not equal(site(*x), site(*x))
    assert equal(site.eval()(*x), site(*x))
    assert not equal(site(*x), keyed(site.train(), 1)(*x))


def key_name(site):
    """How a call of this layer spells its key: attention's `key` is a tensor of its own."""
    return "dropout_key" if "dropout_key" in inspect.signature(site.forward).parameters else "key"


def called(site, x, key, **options):
    """The layer with a key in its call; the weights' own parametrization where a layer wraps one."""
    if torch.nn.utils.parametrize.is_parametrized(site):
        connect = site.parametrizations.weight[0]
        weight = connect(site.parametrizations.weight.original, key=key, **options)
        return torch.nn.functional.linear(*x, weight, site.bias)
    return site(*x, **{key_name(site): key}, **options)


@every_layer
def test_a_key_in_a_call_is_the_masks_key(layer):
    """In place of the layer's own, without touching torch's generator; nothing is folded into it."""
    site, x, key = keyed(layer.make(), 1), layer.inputs(), Key(5, 3)
    before = torch.get_rng_state()
    found = called(site, x, key)
    assert torch.equal(before, torch.get_rng_state())
    assert equal(found, called(site, x, torch.tensor([5, 3])))
    assert not equal(found, called(site, x, Key(6, 3)))
    own = copy.deepcopy(site)
    for module in own.modules():
        if isinstance(module, Site):
            module._clock = None
            module.give_key(key, None)
    assert equal(found, own(*x))
    assert equal(called(site.eval(), x, key), site(*x))


@every_layer
def test_a_key_in_a_call_is_checked(layer):
    site, x = layer.make(), layer.inputs()
    for _ in (site.train(), site.eval()):
        with pytest.raises(TypeError, match=r"key must be a thinned\.Key, got 5: make one with thinned\.Key"):
            called(site, x, 5)
        with pytest.raises(TypeError, match=r"pass (dropout_)?key or call=1, not both"):
            called(site, x, Key(5), call=1)


def verb_of(name):
    """The verb of a layer's name, DropoutAddRMSNorm's as dropout_add_rms_norm."""
    return VERBS.get(re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower())


@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name].alone and verb_of(name)])
def test_a_layer_with_a_key_is_the_verb_with_it(name):
    verb, layer = verb_of(name), LAYERS[name].make()
    x = LAYERS[name].inputs()
    tables = [*layer.parameters()][: len(verb.inputs()) - len(x)]
    if tables and getattr(layer, "bias", None) is not None:
        torch.nn.init.zeros_(layer.bias)
    assert equal(called(layer, x, Key(5, 3)), verb.call(*x, *tables, training=True, key=Key(5, 3)))


@every_layer
def test_evaluation_is_identity(layer):
    if layer.identity:
        (x,) = layer.inputs()
        assert layer.make().eval()(x) is x


class Deep(fx.Tracer):
    """Looks into every module, torch.nn's too."""

    def is_leaf_module(self, m, module_qualified_name):
        return False


@pytest.mark.parametrize("tracer", [fx.Tracer, Deep])
@pytest.mark.parametrize("traced_in", ["training", "evaluation"])
@every_layer
def test_fx_graph_follows_training(layer, traced_in, tracer):
    site, x = keyed(layer.make(), 1), layer.inputs()
    model = around(site, x).train(traced_in == "training")
    module = fx.GraphModule(model, tracer().trace(model))
    leaves = tree_leaves(x)
    for training in (True, False, True):
        assert equal(module.train(training)(*leaves), model.train(training)(*leaves))
    set_step(module, 3)
    assert not equal(module(*leaves), keyed(copy.deepcopy(model), 1)(*leaves)), "the step does not count"


@every_verb
def test_fx_records_a_verb_with_training_as_given(verb):
    x = verb.inputs()
    names = ", ".join(f"x{i}" for i in range(len(x)))
    for training in (True, False):
        call = functools.partial(verb.call, training=training, key=Key(1))
        traced = fx.symbolic_trace(eval(f"lambda {names}: call({names})", {"call": call}))
        assert equal(traced(*x), call(*x))


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if len(verb.inputs()) > 1])
def test_fx_records_a_verb_by_any_of_its_tensors(name):
    """A stand-in that is not the first argument: a residual added to a constant, say."""
    verb = VERBS[name]
    x = verb.inputs()
    for place in range(1, len(x)):
        if not x[place].is_floating_point():
            continue

        call = eval(
            "lambda one: verb.call(*x[:place], one, *x[place + 1 :], training=True)",
            {"verb": verb, "x": x, "place": place},
        )
        module = fx.symbolic_trace(call)
        first, second = seeded(module, x[place]), module(x[place])
        assert equal(first, seeded(call, x[place]))
        assert not equal(first, second), "one mask is frozen into the graph"


def switched(program, training):
    """As `move_exported_model_to_eval` does it: aten.dropout's flag is turned, and its p lost."""
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.dropout.default):
        node.args = (node.args[0], 0.5, training)
    program.recompile()
    return program


@pytest.mark.parametrize(
    "layer",
    [one for one in LAYERS.values() if one.turns],
    ids=[name for name, one in LAYERS.items() if one.turns],
)
def test_an_exported_program_can_be_turned(layer):
    site, x = layer.make(), layer.inputs()
    program = torch.export.export(site, x).module()
    assert equal(seeded(program, *x), seeded(site, *x))
    switched(program, False)
    torch.testing.assert_close(flat(program(*x)), flat(site.eval()(*x)), rtol=1e-6, atol=1e-6)
    assert equal(program(*x), program(*x))
    assert not equal(switched(program, True)(*x), site(*x))


@pytest.mark.parametrize("verb", [VERBS[name] for name in VERBS if name != "patch_dropout"])
def test_an_exported_verb_can_be_turned(verb):
    class Calls(torch.nn.Module):
        def forward(self, *x):
            return verb.call(*x, training=self.training)

    model, x = Calls(), verb.inputs()
    program = torch.export.export(model, x).module()
    assert equal(seeded(program, *x), seeded(model, *x))
    turned = flat(switched(program, False)(*x))
    torch.testing.assert_close(turned, flat(model.eval()(*x)), rtol=1e-6, atol=1e-6)


@every_layer
def test_make_fx_has_the_masks_of_eager_code(layer):
    site, x = keyed(layer.make(), 1), layer.inputs()
    leaves, tree = torch.utils._pytree.tree_flatten(x)
    made = make_fx(lambda *leaves: site(*torch.utils._pytree.tree_unflatten(leaves, tree)))(*leaves)
    assert equal(made(*leaves), site(*x))


@pytest.mark.parametrize(
    ("seed", "keep"), [(1, True), (1, False), (None, True)], ids=["keyed", "keyed-no-state", "drawn"]
)
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not-reentrant"])
@every_layer
def test_a_checkpoint_recomputes_the_same_mask(layer, reentrant, seed, keep):
    site, x = keyed(layer.make(), seed), layer.inputs()

    def loss(scale):
        return sum((leaf * scale).square().sum() for leaf in tree_leaves(site(*x)))

    def gradients(run):
        scale = torch.full((), 3.0, requires_grad=True)
        site.zero_grad()
        seeded(run, scale).backward()
        return [scale.grad, *(parameter.grad for parameter in site.parameters())]

    plain = gradients(loss)
    again = gradients(lambda scale: checkpoint(loss, scale, use_reentrant=reentrant, preserve_rng_state=keep))
    assert equal(plain, again)


@every_layer
def test_a_deep_copy_has_its_key_and_its_own_step(layer):
    site, x = set_step(keyed(layer.make(), 1), 5), layer.inputs()
    twin = copy.deepcopy(site)
    assert equal(twin(*x), site(*x))
    before = site(*x)
    set_step(twin, 6)
    assert equal(site(*x), before)
    assert not equal(twin(*x), before)


@every_layer
def test_a_pickle_has_key_and_step(layer):
    site, x = set_step(keyed(layer.make(), 1), 5), layer.inputs()
    if torch.nn.utils.parametrize.is_parametrized(site):
        with pytest.raises(RuntimeError, match=r"only supported through state_dict"):
            pickle.dumps(site)  # torch's own ruling
        return
    assert equal(pickle.loads(pickle.dumps(site))(*x), site(*x))


@every_layer
def test_threads_share_a_keyed_layer(layer):
    site, x = keyed(layer.make(), 1), layer.inputs()
    expected, found = site(*x), []
    threads = [threading.Thread(target=lambda: found.extend([site(*x) for _ in range(3)])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(flat(found), flat(expected).repeat(6))


@old
@every_layer
def test_torch_jit_trace_draws_anew(layer):
    site, x = layer.make(), layer.inputs()
    traced = torch.jit.trace(site, x, check_trace=False)
    with torch.no_grad():
        first = seeded(traced, *x)
        assert equal(first, seeded(site, *x))
        assert not equal(first, traced(*x))


@old
@every_layer
def test_torch_jit_trace_of_a_keyed_layer_warns(layer):
    site, x = set_step(keyed(layer.make(), 1), 3), layer.inputs()
    with pytest.warns(
        torch.jit.TracerWarning, match=r"has a key: torch\.jit\.trace records the mask of this"
    ):
        traced = torch.jit.trace(site, x, check_trace=False)
    with torch.no_grad():
        assert equal(traced(*x), site(*x))


@old
@every_layer
def test_torch_jit_script_says_what_to_script(layer):
    with pytest.raises(TypeError, match=r"cannot compile thinned\.torch\.nn\.\w+: script .*strip"):
        torch.jit.script(torch.nn.Sequential(layer.make()))


@every_layer
def test_a_layer_without_memory_gets_it_later(layer):
    with torch.device("meta"):
        site = keyed(layer.make(), 1)
    model, x = keyed(layer.make(), 1), layer.inputs()
    site.to_empty(device="cpu").load_state_dict(model.state_dict())
    for n in (0, 4):
        assert equal(set_step(site, n)(*x), set_step(model, n)(*x))


@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if layer.inplace])
def test_autograd_hears_of_what_is_written_in_place(name):
    layer = LAYERS[name]
    (x,) = layer.inputs()
    weight = torch.ones((), requires_grad=True)
    saved = weight * x
    layer.make(inplace=True)(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.sum().backward()
