"""Every layer in compiled code: outputs and gradients of eager code, and one graph for all steps."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch_sites import LAYERS

from thinned.torch import keyed, schedules, set_step
from thinned.torch._site import RATES, Site

# torch.compile leaves a graph at recurrent layers, torch's own too.
DIVIDED = {"GRU", "LSTM"}
# Of their verbs, or of verbs that they call, others stand for them in the quick tier.
ALIKE = {
    *("DropBlock1d", "DropBlock3d", "Dropout2d", "Dropout3d", "DropoutAddRMSNorm", "FeatureAlphaDropout"),
    *("DropoutWrapper", "EmbeddingDropout", "MultiheadAttention"),
    *("Cutout", "DropHead", "DropMessage", "SparseVariationalConv2d", "StochasticDepth"),
}
# Their probabilities are to keep, and a schedule of them ends in nothing dropped.
KEEP = {"DropoutWrapper"}
# The output's shape is made of p, so that code compiled for one p cannot serve another.
FIXED = {"PatchDropout"}


def run(site, x):
    """Outputs, and gradients of inputs and parameters."""
    x = tree_map(lambda each: each.clone().requires_grad_() if each.is_floating_point() else each, x)
    outputs = tree_leaves(site(*x))
    wanted = [each for each in (*tree_leaves(x), *site.parameters()) if each.requires_grad]
    total = sum(each.square().sum() for each in outputs if each.requires_grad)
    return outputs, torch.autograd.grad(total, wanted, allow_unused=True) if wanted else ()


def cases():
    for name in LAYERS.keys() - DIVIDED:
        for backend in ("aot_eager", "inductor"):
            whole = backend == "inductor" or name in ALIKE
            yield pytest.param(name, backend, marks=[pytest.mark.full] * whole, id=f"{name}-{backend}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize(("name", "backend"), sorted(cases(), key=lambda case: case.id))
def test_compiled_code_equals_eager_code_with_one_graph_for_all_steps(name, backend):
    torch.compiler.reset()
    site, x = keyed(LAYERS[name].make(), 7), LAYERS[name].inputs()
    for module in site.modules():
        if isinstance(module, Site) and name not in KEEP | FIXED:
            for rate in vars(module).keys() & {*RATES, "hidden_p", "cell_p"}:
                setattr(module, rate, schedules.Linear(0.1, 0.5, 4))
    compiled, graphs = torch.compile(site, fullgraph=True, backend=backend), set()
    for step in range(1, 4):
        set_step(site, step)
        for eager, other in zip(*map(tree_leaves, (run(site, x), run(compiled, x))), strict=True):
            torch.testing.assert_close(eager, other)  # the compiler may sum in another order
            assert torch.equal(eager == 0, other == 0)
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert len(graphs) == 1
