"""What every verb of `thinned.torch.functional` rules alike: it is here by being listed in `torch_sites`."""

import math

import pytest
import torch
from torch_sites import VERBS

from thinned import Key
from thinned._arguments import REQUIRED

# torch compiles derivatives of its own with torch.jit, and attention's by names that it means to give up.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KEY = Key(2**63 + 5, 11)
FLOATS = {name for name, one in VERBS.items() if all(x.is_floating_point() for x in one.inputs())}
RATED = {name for name, one in VERBS.items() if one.rate is not None}
LEARNED = {name for name in RATED if isinstance(VERBS[name].rate, torch.Tensor)}
# They run layers, which have all further keywords, or choose what a call's shape is.
LAYERS, TOKENS = {"layer_drop"}, {"patch_dropout"}
BOXES = {"cutout", "mask_spans"}
BLOCKS = {"drop_block1d", "drop_block2d", "drop_block3d"}
# Their backward pass has numbers of its own, and their key is folded by a part before an example's index is.
SHAKES = {"shake_drop", "shake_shake"}
# Which are chosen element by element.
ELEMENTS = {"alpha_dropout", "dropout", "dropout_add", "gaussian_dropout", "zoneout"}
NORMS = {"dropout_add_layer_norm", "dropout_add_rms_norm"}
# One decision for each element, row or channel, with a rate of its own where p is a tensor.
PLAIN = {name for name in FLOATS & RATED - LEARNED - TOKENS - BOXES - {"mixout"} if VERBS[name].keeps}
ROWS = PLAIN - {"drop_node", "drop_message"} | {"zoneout", "dropout_add", "drop_connect_linear"}
ROWS |= {"scaled_dot_product_attention"}


def each(names):
    return pytest.mark.parametrize(
        "verb", [VERBS[name] for name in VERBS if name in names], ids=lambda v: v.name
    )


both = pytest.mark.parametrize("training", [True, False])


def parts(result):
    return result if isinstance(result, tuple) else (result,)


def same(one, other):
    return all(map(torch.equal, parts(one), parts(other)))


def of(p, verb):
    return torch.tensor(p) if verb.name in LEARNED else p


def doubles(verb):
    return tuple(x.double().requires_grad_() for x in verb.inputs())


@both
@each(RATED)
def test_a_rate_outside_is_refused(verb, training):
    for p in (-0.1, 1.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"p must be in \[0, 1[\])], got"):
            verb.call(*verb.inputs(), training=training, p=of(p, verb))


@both
@each(RATED - LEARNED)
def test_a_rate_that_is_no_number_is_refused(verb, training):
    for p in (True, "0.5", None, torch.tensor(True)):
        with pytest.raises(TypeError, match=r"p must be a real number, got|pass p, or drop_prob"):
            verb.call(*verb.inputs(), training=training, p=p)
    if training:
        with pytest.raises(ValueError, match="p has no gradient"):
            verb.call(*verb.inputs(), training=True, p=torch.tensor(0.5, requires_grad=True))


@each(VERBS)
def test_training_has_to_be_said(verb):
    with pytest.raises(TypeError, match=r"training is missing: pass training=self\.training"):
        verb.call(*verb.inputs(), training=REQUIRED)


@both
@each(VERBS)
def test_a_key_is_one_and_goes_without_a_generator(verb, training):
    with pytest.raises(TypeError, match=r"make one with thinned\.Key"):
        verb.call(*verb.inputs(), training=training, key=3)
    if verb.name not in LAYERS:
        with pytest.raises(TypeError, match=r"pass (dropout_)?key or generator, not both"):
            verb.call(*verb.inputs(), training=training, key=KEY, generator=torch.Generator())


@both
@each(FLOATS - LAYERS)
def test_integers_are_refused(verb, training):
    with pytest.raises(TypeError, match=r"must be .*float32.*got torch\.int64"):
        verb.call(*(x.long() for x in verb.inputs()), training=training)


@each(VERBS)
def test_evaluation_draws_nothing_and_gives_back_what_it_may(verb):
    state, x = torch.get_rng_state(), verb.inputs()
    y = verb.call(*x, training=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert (y is x[0]) == verb.keeps
    if verb.name in PLAIN:
        assert verb.call(*x, training=True, p=0) is x[0]


@each(PLAIN - {"gaussian_dropout"})
def test_all_that_is_dropped_is_zero_whatever_there_was(verb):
    x = torch.full_like(*verb.inputs(), math.nan).requires_grad_()
    y = verb.call(x, training=True, p=1.0)
    y.backward(x.detach())
    for tensor in (y.detach(), x.grad):
        assert not tensor.view(torch.int32).any()


@both
@each(FLOATS - LAYERS)
def test_a_batch_may_be_empty(verb, training):
    x = verb.inputs()
    full = verb.call(*x, training=training)
    empty = verb.call(
        *(each[:0] if each.shape[0] == x[0].shape[0] else each for each in x), training=training
    )
    for some, none in zip(parts(full), parts(empty), strict=True):
        assert none.shape == (0, *some.shape[1:])


@each(VERBS)
def test_one_key_is_drawn_in_a_call(verb):
    """Two words of torch's generator, or of one's own; and nothing where a key is given."""

    def draw(**source):
        return verb.call(*verb.inputs(), training=True, **source)

    torch.manual_seed(3)
    one, two = draw(), draw()
    torch.manual_seed(3)
    bits = torch.empty(2, dtype=torch.int64).random_(-(2**63), None)
    assert same(one, draw(key=bits))
    assert same(two, draw())
    assert not same(one, two)
    state = torch.get_rng_state()
    assert same(draw(key=KEY), draw(key=KEY))
    if verb.name not in LAYERS:
        assert same(draw(generator=torch.Generator().manual_seed(3)), one)
    assert torch.equal(torch.get_rng_state(), state)


@each(FLOATS - SHAKES)
def test_derivatives_are_those_of_the_function(verb):
    """In double, along random directions: backward, forward, and the second."""

    def call(*x):
        return verb.call(*x, training=True, key=KEY)

    forward = verb.name not in NORMS
    assert torch.autograd.gradcheck(call, doubles(verb), check_forward_ad=forward, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, doubles(verb), fast_mode=True)


@each(FLOATS)
def test_the_gradient_of_a_drawn_mask_is_that_of_its_key(verb):
    def gradients(**source):
        x = doubles(verb)
        total = sum(y.square().sum() for y in parts(verb.call(*x, training=True, **source)))
        return torch.autograd.grad(total, x)

    torch.manual_seed(3)
    bits = torch.empty(2, dtype=torch.int64).random_(-(2**63), None)
    torch.manual_seed(3)
    assert same(gradients(), gradients(key=bits))


@each(PLAIN)
def test_what_is_saved_for_backward_does_not_grow_with_the_input(verb):
    def saved(times, dtype):
        held = []
        x = verb.inputs()[0].repeat(times, *(1,) * (verb.inputs()[0].dim() - 1)).to(dtype).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.nbytes) or t, lambda t: t):
            assert verb.call(x, training=True).requires_grad
        return sum(held)

    for dtype in (torch.float32, torch.bfloat16):
        assert saved(1, dtype) == saved(50, dtype) < 100


@each(ROWS)
def test_each_sample_may_have_a_rate(verb):
    x = verb.inputs()
    n, most = len(x[0]), 0.6 if verb.name in BLOCKS else 0.9
    rates = torch.linspace(0, most, n, dtype=torch.float64)
    rank = 3 if verb.name == "drop_connect_linear" else x[0].dim()
    got = verb.call(*x, training=True, key=KEY, p=rates.reshape(n, *(1,) * (rank - 1)))
    for i, rate in enumerate(rates.tolist()):
        torch.testing.assert_close(got[i], verb.call(*x, training=True, key=KEY, p=rate)[i])
    if verb.name in ELEMENTS:
        across = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
        got = verb.call(*x, training=True, key=KEY, p=across[None])
        for i, rate in enumerate(across.tolist()):
            assert torch.equal(got[:, i], verb.call(*x, training=True, key=KEY, p=rate)[:, i])
    one = torch.tensor(0.3)
    assert same(*(verb.call(*x, training=True, key=KEY, p=p) for p in (one, one.item())))
    with pytest.raises(ValueError, match=r"p of shape \(97,\) does not fit"):
        verb.call(*x, training=True, p=torch.full((97,), 0.5))


@each(FLOATS - LEARNED - LAYERS - BOXES - SHAKES)
def test_under_vmap_a_key_is_folded_by_the_index_or_shared(verb):
    x = tuple(torch.stack([each, each, each]) for each in verb.inputs())

    def call(*x, key=KEY):
        return parts(verb.call(*x, training=True, key=key))

    def slope(*x, key=KEY):
        return torch.func.grad(lambda *x: sum(y.square().sum() for y in call(*x, key=key)))(*x)

    for randomness in ("same", "different"):
        for function in (call, slope):
            got = parts(torch.vmap(function, randomness=randomness)(*x))
            for i in range(3):
                key = KEY.fold(i) if randomness == "different" else KEY
                alone = parts(function(*verb.inputs(), key=key))
                torch.testing.assert_close(tuple(y[i] for y in got), alone)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        torch.vmap(lambda *x: call(*x, key=None))(*x)
