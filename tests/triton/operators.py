"""The operators as they run on a GPU: autograd, transforms, in place, opaque to the compiler."""

from pathlib import Path

import numpy as np
import pytest
import torch
from arrays import array, numbers, rate, reference
from equal_bits import assert_equal_bits

from thinned import Key
from thinned.torch import _capture, _cuda, _key, _operator, _residual, functional, keyed, nn, set_step
from thinned.torch._triton import _launch

pytestmark = [
    pytest.mark.usefixtures("kernels_serve_the_cpu"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own
]

KEY = Key(11, 3)
BITS = _key.key_to_tensor(KEY)


@pytest.fixture
def launches(monkeypatch):
    """How often each launch was called."""
    counts = dict.fromkeys(("dropout", "add", "fold"), 0)
    for name in counts:
        launch = getattr(_launch, name)

        def counted(*arguments, name=name, launch=launch):
            counts[name] += 1
            return launch(*arguments)

        monkeypatch.setattr(_launch, name, counted)
    return counts


def mask(y):
    return y.detach() != 0


def test_backward_has_the_forwards_mask(launches):
    x = torch.ones(40, 30, requires_grad=True)
    for one in (x, x.t()):
        x.grad = None
        y = functional.dropout(one, 0.4, True, key=KEY)
        y.backward(torch.full_like(y, 3.0))
        grad = x.grad if one is x else x.grad.t()
        assert torch.equal(mask(y), mask(grad))
    assert launches["dropout"] == 4


def test_what_is_dropped_never_leaks():
    x = torch.full((500,), torch.nan, requires_grad=True)
    y = functional.dropout(x, 0.4, True, key=KEY)
    kept = torch.from_numpy(reference(torch.ones(500), 0.4, KEY)) != 0
    assert torch.equal(y.isnan(), kept)
    y.backward(torch.full((500,), torch.inf))
    assert torch.equal(x.grad == 0, ~kept)


def test_in_place(launches):
    x = numbers((30, 20))
    expected = reference(x, 0.4, KEY)
    y = x.clone()
    assert functional.dropout(y, 0.4, True, inplace=True, key=KEY) is y
    assert_equal_bits(array(y), expected)
    leaf = x.clone().requires_grad_()
    y = leaf * 1
    assert functional.dropout(y, 0.4, True, True, key=KEY, noise_shape=(30, 1)) is y
    upstream = numbers((30, 20), seed=1)
    y.backward(upstream)
    assert_equal_bits(array(y), reference(x, 0.4, KEY, noise_shape=(30, 1)))
    assert_equal_bits(array(leaf.grad), reference(upstream, 0.4, KEY, noise_shape=(30, 1)))
    assert launches["dropout"] == 3  # the backward pass is one of them; no copy is made


def test_in_place_autograd_is_told_before_the_write(launches):
    linear = torch.nn.Linear(20, 2)
    x = torch.ones(30, 20)
    loss = linear(x).sum()
    functional.dropout(x, 0.4, True, inplace=True, key=KEY)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    leaf = torch.ones(30, 20, requires_grad=True)
    for view in (leaf, leaf[1:]):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            functional.dropout(view, 0.4, True, inplace=True, key=KEY)
    with torch.inference_mode():
        inferred = torch.ones(30, 20)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        functional.dropout(inferred, 0.4, True, inplace=True, key=KEY)
    assert launches["dropout"] == 1
    assert bool((inferred == 1).all())
    assert bool((leaf == 1).all())


def test_in_place_a_key_that_is_written_to_is_an_error_of_the_backward_pass():
    key = BITS.clone()
    y = torch.ones(100, requires_grad=True) * 1
    functional.dropout(y, 0.4, True, inplace=True, key=key)
    key.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_shards_and_shared_decisions():
    x = numbers((6, 8))
    where = {"noise_shape": (6, 1), "global_shape": (20, 8), "start": (11, 0)}
    y = functional.dropout(x, 0.4, True, key=KEY, **where)
    assert_equal_bits(array(y), reference(x, 0.4, KEY, **where))


def test_each_row_has_its_own_p(launches):
    x = numbers((4, 50))
    p = torch.tensor([[0.0], [0.3], [0.9], [1.0]])
    y = functional.dropout(x, p, True, key=KEY)
    whole = [reference(x, float(one), KEY) for one in p]
    for i in range(4):
        assert_equal_bits(array(y[i]), whole[i][i])
    assert functional.dropout(x, p, True, inplace=True, key=KEY) is x
    assert torch.equal(x, y)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
        functional.dropout(x, torch.tensor([[0.0], [0.3], [0.9], [1.1]]), True, key=KEY)
    assert launches["dropout"] == 3


def test_one_key_each_under_vmap(launches):
    keys = torch.stack([_key.key_to_tensor(KEY.fold(i)) for i in range(3)])
    x = numbers((3, 100))
    y = torch.vmap(lambda x, key: functional.dropout(x, 0.4, True, key=key))(x, keys)
    for i in range(3):
        assert_equal_bits(array(y[i]), reference(x[i], 0.4, KEY.fold(i)))
    assert launches["dropout"] == 1


def test_forward_mode_and_torch_func():
    x, t = numbers(100), numbers(100, seed=1)
    f = lambda x: functional.dropout(x, 0.4, True, key=KEY)  # noqa: E731
    assert torch.equal(torch.func.jvp(f, (x,), (t,))[1], f(t))
    assert torch.equal(torch.func.grad(lambda x: f(x).sum())(x), f(torch.ones(100)))
    g = lambda x: functional.dropout_add(x, x, 0.4, True, key=KEY)  # noqa: E731
    assert torch.equal(torch.func.jvp(g, (x,), (t,))[1], g(t))
    assert torch.equal(torch.vmap(g)(x[None])[0], g(x))


def test_dropout_add(launches):
    x, residual = (numbers((20, 30), seed=i).requires_grad_() for i in range(2))
    y = functional.dropout_add(x, residual, 0.4, True, key=KEY)
    assert_equal_bits(array(y), array(torch.from_numpy(reference(x, 0.4, KEY)) + residual.detach()))
    upstream = numbers((20, 30), seed=5)
    of_x, of_residual = torch.autograd.grad(y, (x, residual), upstream)
    assert torch.equal(of_residual, upstream)
    assert_equal_bits(array(of_x), reference(upstream, 0.4, KEY))
    assert launches == {"dropout": 1, "add": 1, "fold": 0}
    functional.dropout_add(x, residual[:1], 0.4, True, key=KEY)
    functional.dropout_add(x, residual, torch.full((20, 1), 0.4), True, key=KEY)
    assert launches["add"] == 1


def test_dropout_adds_derivatives():
    x, residual = (numbers((4, 5), torch.float64, i).requires_grad_() for i in range(2))
    f = lambda x, r: functional.dropout_add(x * x, r * r, 0.4, True, key=KEY)  # noqa: E731
    assert torch.autograd.gradcheck(f, (x, residual), fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (x, residual), fast_mode=True)


@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
def test_no_value_is_read_before_the_kernel(monkeypatch):
    """What a CUDA graph must not do: wait for the device. Replayed, it reads what the tensors then hold."""
    key, p = BITS.clone(), rate(0.4).clone()
    x, residual = numbers((8, 24)), numbers((8, 24), seed=1)
    for name in ("item", "tolist", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("a value was read"))
    y = functional.dropout(x, p, True, key=key)
    functional.dropout(x.clone(), p, True, inplace=True, key=key)
    functional.dropout_add(x, residual, p, True, key=key)
    functional.dropout_add_layer_norm(x, residual, 24, p=p, training=True, key=key)
    folded = _key.fold(key, torch.tensor(5))
    monkeypatch.undo()
    assert torch.equal(folded, _key.key_to_tensor(KEY.fold(5)))
    assert torch.equal(mask(y), torch.from_numpy(reference(torch.ones(8, 24), 0.4, KEY)) != 0)


@pytest.mark.parametrize("many", [False, True])
def test_what_would_wait_while_a_graph_is_captured_is_refused_by_name(monkeypatch, many):
    """CUDA's own error names no argument, and ends the capture."""
    monkeypatch.setattr(_capture, "capturing", lambda tensor: True)
    x, elsewhere = numbers((2, 3, 8, 8)), torch.device("meta")  # as good as another GPU
    monkeypatch.setattr(_launch, "_on", lambda input, small: True)
    keys, p = BITS.expand(2, 2).to(elsewhere), torch.full((2, 1, 1, 1), 0.3).to(elsewhere)
    if many:
        calls = {
            r"key of shape \(2, 2\) on meta": lambda: _launch.dropout(x, x, keys, rate(0.3), True, 0, None),
            r"p of shape \(2, 1, 1, 1\) on meta": lambda: _launch.dropout(x, x, BITS, p, True, 0, None),
        }
    else:
        one = rate(0.3).reshape(1, 1, 1, 1)
        calls = {
            r"key of shape \(2,\) on cpu": lambda: _key.words_of(BITS),
            r"p of shape .* seeds' rate": lambda: functional.drop_block2d(x, one, 2, True, key=BITS),
        }
    for said, call in calls.items():
        with pytest.raises(RuntimeError, match=f"captured, and {said}"):
            call()


def test_grids_have_one_dimension():
    """A second one ends at 65,535 programs."""
    folder = Path(_launch.__file__).parent
    assert not [file.name for file in folder.glob("*.py") if "program_id(1)" in file.read_text()]


@pytest.fixture
def _asked_anew():
    _cuda._has_triton.cache_clear()
    yield
    _cuda._has_triton.cache_clear()


@pytest.mark.usefixtures("_asked_anew")
@pytest.mark.parametrize("missing", ["constexpr.__getitem__", "gather", None])
def test_a_triton_that_is_too_old_or_missing_is_said_once_and_not_used(monkeypatch, missing):
    """Triton 3.2, which torch 2.6 brings, fails in each kernel: 'tuple' object has no attribute 'dtype'."""
    if missing:
        monkeypatch.delattr(f"triton.language.{missing}")
    else:
        monkeypatch.setattr(_cuda, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="and dropout's kernels for a GPU need 3.4 or later"):
        assert not _cuda.has_triton()
    assert not _cuda.has_triton()  # a second warning would be an error


# The compiler.


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("_asked_anew")
def test_whether_there_are_kernels_is_a_constant_of_compiled_code():
    torch._dynamo.reset()
    call = torch.compile(lambda x: x + _cuda.has_triton(), backend="eager", fullgraph=True)
    assert torch.equal(call(torch.zeros(2)), torch.ones(2))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_code_keeps_the_operators_whole(dynamic):
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    def f(x, residual, key):
        y = functional.dropout_add(functional.dropout(x, 0.4, True, key=key), residual, 0.2, True, key=key)
        return functional.dropout_add_layer_norm(y, residual, 24, p=0.3, training=True, key=key)

    torch._dynamo.reset()
    inputs = (numbers((6, 24)), numbers((6, 24), seed=1), BITS)
    compiled = torch.compile(f, backend=backend, fullgraph=True, dynamic=dynamic)
    for ours, plain in zip(compiled(*inputs), f(*inputs), strict=True):
        assert torch.equal(ours, plain)
    (graph,) = graphs
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    names = [name for name in called if "thinned" in name]
    assert names == ["thinned.dropout", "thinned.dropout_add", "thinned.dropout_add_norm"]


@pytest.mark.full
def test_compiled_masks_are_those_of_eager_code_forward_and_backward():
    torch._dynamo.reset()
    model = keyed(torch.nn.Sequential(torch.nn.Linear(8, 24), nn.Dropout(0.4)), 3)
    norm = keyed(nn.DropoutAddLayerNorm(24, 0.3), 5)

    def f(x, residual):
        return norm(model(x), residual)

    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    for step in range(3):
        set_step(model, step)
        set_step(norm, step)
        results = []
        for call in (f, compiled):
            x, residual = (numbers(s, seed=1).requires_grad_() for s in ((6, 8), (6, 24)))
            normed, total = call(x, residual)
            results.append((normed, total, *torch.autograd.grad((normed * total).sum(), (x, residual))))
        for eager, other in zip(*results, strict=True):
            assert torch.equal(eager, other)


CHECKS = ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]


@pytest.mark.full  # torch/test_operator.py and test_norm.py ask the same of the operators where no kernel is
@pytest.mark.parametrize("residual_dtype", [torch.float32, torch.float64])
def test_operators_are_what_torch_asks_of_one(residual_dtype):
    x = numbers((4, 24)).requires_grad_()
    residual = numbers((4, 24), residual_dtype, 1).requires_grad_()
    weight, bias = (numbers(24, residual_dtype, seed).requires_grad_() for seed in (2, 3))
    p = rate(0.3)
    torch.library.opcheck(_operator.torch.ops.thinned.dropout, (x, BITS, p), test_utils=CHECKS)
    torch.library.opcheck(_residual.torch.ops.thinned.dropout_add, (x, residual, BITS, p), test_utils=CHECKS)
    for rms in (False, True):
        what = (x, residual, weight, None if rms else bias, BITS, p, 1e-5, rms, 24)
        torch.library.opcheck(_residual.torch.ops.thinned.dropout_add_norm, what, test_utils=CHECKS)


def test_a_generators_key_is_on_its_device():
    generator = torch.Generator().manual_seed(3)
    key = _key.draw(generator)
    assert key.device == generator.device
    generator.manual_seed(3)
    y = functional.dropout(torch.ones(200), 0.4, True, generator=generator)
    assert np.array_equal(array(y), reference(torch.ones(200), 0.4, Key(*_key.words_of(key))))
