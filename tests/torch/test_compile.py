"""Compiled code: one graph for all values of p, step and key; evaluation without an operator."""

import io
import itertools

import pytest
import torch
from tiers import BACKENDS

from thinned import Key
from thinned.torch import functional, keyed, nn, set_step
from thinned.torch.schedules import Early, Linear

# The compiler's own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()


def network(p):
    return torch.nn.Sequential(torch.nn.Linear(8, 16), nn.Dropout(p), torch.nn.ReLU(), nn.Dropout(p))


def compile_at_most(graphs, f, backend, **kwargs):
    """Compiled code that raises where its values would need another graph."""
    compiled = torch.compile(f, backend=backend, fullgraph=True, **kwargs)

    def call(*args):
        with torch._dynamo.config.patch(recompile_limit=graphs):
            return compiled(*args)

    return call


def test_a_graph_too_many_is_an_error():
    """The control of the tests that follow."""
    call = compile_at_most(1, lambda x, n: x * n, "eager")
    call(torch.ones(2), 1)
    with pytest.raises(Exception, match=r"recompile_limit|fullgraph"):
        call(torch.ones(2), 2)


def both(compiled, eager, x):
    """The outputs and input gradients of compiled and eager code agree in their zeros and to rounding."""
    results = []
    for run in (compiled, eager):
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        y.sum().backward()
        results.append((y.detach(), leaf.grad))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a == 0, b == 0)
        assert torch.allclose(a, b, atol=1e-6)
    return results[0][0]


# What generates code has no part in how many graphs there are.
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("p", [0.5, Linear(0.1, 0.9, 10), Early(0.5, 10)], ids=repr)
def test_ten_steps_compile_once(p, backend):
    model = keyed(network(p), 3)
    compiled = compile_at_most(1, model, backend)
    x = torch.randn(4, 8)
    outputs = [both(compiled, set_step(model, n), x) for n in range(10)]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(outputs))


def test_another_seed_is_no_other_graph():
    model = keyed(network(0.5), 3)
    compiled = compile_at_most(1, model, "aot_eager")
    for seed in (3, 4, 2**63 + 5):
        both(compiled, keyed(model, seed), torch.randn(4, 8))


@pytest.mark.parametrize(("kind", "graphs"), [("tensor", 1), ("number", 2)])
def test_ten_values_of_p(kind, graphs):
    """A number is a constant of the first graph; the second serves all others."""
    x = torch.ones(40, 5)

    def f(x, p):
        return functional.dropout(x, p, True, key=Key(1))

    compiled = compile_at_most(graphs, f, "aot_eager")
    for n in range(1, 11):
        p = torch.tensor(n / 11, dtype=torch.float64) if kind == "tensor" else n / 11
        assert torch.equal(compiled(x, p), f(x, n / 11))


def test_ten_values_of_a_layers_p():
    model = keyed(network(0.5), 3)
    compiled = compile_at_most(2, model, "aot_eager")
    for n in range(1, 11):
        model[1].p = n / 11
        set_step(model, n)
        both(compiled, model, torch.randn(4, 8))


def test_the_ends_of_p():
    x = torch.ones(4, 5)
    compiled = torch.compile(lambda x, p: functional.dropout(x, p, True, key=Key(1)), backend="aot_eager")
    for p in (0.0, 1.0, 0.5):
        assert torch.equal(compiled(x, torch.tensor(p)), functional.dropout(x, p, True, key=Key(1)))
        assert torch.equal(compiled(x, p), functional.dropout(x, p, True, key=Key(1)))
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.5"):
        compiled(x, torch.tensor(1.5))


def test_classic_evaluation_by_a_tensor():
    compiled = torch.compile(
        lambda x, p: functional.dropout(x, p, False, mode="classic"), backend="aot_eager", fullgraph=True
    )
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x = torch.randn(50).to(dtype)
        for p in (0.1, 0.25, 1.0):
            expected = functional.dropout(x, p, False, mode="classic")
            assert torch.equal(compiled(x, torch.tensor(p, dtype=torch.float64)), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_are_symbols(backend):
    def f(x):
        return functional.dropout(x, 0.5, True, key=Key(1), noise_shape=(None, 1, None))

    compiled = compile_at_most(2, f, backend, dynamic=True)  # and one for other strides
    for n in range(3, 9):
        x = torch.randn(n, n + 2, 2 * n)
        assert torch.equal(compiled(x), f(x))
    x = torch.randn(5, 9, 4).permute(2, 0, 1)
    assert torch.equal(compiled(x), f(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_dtype_and_the_mask(dtype):
    model = keyed(network(0.5), 3)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(4, 8)
    with torch.autocast("cpu", dtype=dtype):
        y = model(x)
        assert y.dtype == dtype
        assert torch.equal(compiled(x), y)
    y.float().sum().backward()
    assert torch.isfinite(model[0].weight.grad).all()


def operators(program):
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


def eval_model():
    return keyed(torch.nn.Sequential(network(0.5), nn.Dropout(0.1, noise_shape=(None, 1))), 3).eval()


def test_an_exported_eval_model_has_no_random_operator():
    model = eval_model()
    x = torch.randn(4, 8)
    program = torch.export.export(model, (x,))
    assert not any("thinned" in name or "dropout" in name or "rand" in name for name in operators(program))
    assert torch.equal(program.module()(x), model(x))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    assert torch.equal(torch.export.load(buffer).module()(x), model(x))


def test_an_exported_training_model_keeps_its_operator():
    """The control of the test above: it could find one."""
    program = torch.export.export(eval_model().train(), (torch.randn(4, 8),))
    assert "thinned.dropout.default" in operators(program)


@pytest.mark.full  # tests/seams export models in evaluation to ONNX too
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_of_an_eval_model_is_arithmetic_alone():
    onnx = pytest.importorskip("onnx")

    program = torch.onnx.export(eval_model(), (torch.randn(4, 8),), dynamo=True, verbose=False)
    kinds = {node.op_type for node in program.model_proto.graph.node}
    onnx.checker.check_model(program.model_proto)
    assert kinds <= {"Gemm", "Relu", "MatMul", "Add", "Transpose"}, kinds
