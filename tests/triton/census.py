"""Which verbs and layers run a kernel where one serves, and which go by torch's own operators.

All that torch_sites lists falls into it; docs/torch/cuda.md has the reasons of what runs no kernel.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from torch_sites import LAYERS, VERBS

from thinned import Key
from thinned.torch import _plain, keyed
from thinned.torch._triton import _launch, _launch_attention, _launch_block, _launch_norm

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("kernels_serve_the_cpu")]

KERNELS = {
    "dropout": (_launch, "dropout"),
    "add": (_launch, "add"),
    "numbers": (_launch, "numbers"),
    "norm": (_launch_norm, "forward"),
    "attention": (_launch_attention, "forward"),
    "blocks": (_launch_block, "drop_block"),
}
# Where the contract's bits come from torch's operators, which count as no kernel.
OTHERS = [(_plain, name) for name in ("keep_mask", "normal", "word")]

# What runs another kernel than dropout's. Of "torch", the positions are those of a list that is given.
EXPECTED = {
    "add": {"dropout_add", "DropoutAdd"},
    "norm": {"dropout_add_layer_norm", "dropout_add_rms_norm", "DropoutAddLayerNorm", "DropoutAddRMSNorm"},
    "attention": {"scaled_dot_product_attention", "ScaledDotProductAttention"},
    "numbers": {
        *(
            "concrete_dropout",
            "cutout",
            "drop_key",
            "mask_spans",
            "patch_dropout",
            "shake_drop",
            "shake_shake",
        ),
        *("variational_conv", "variational_dropout", "variational_linear", "word_dropout"),
        *("ConcreteDropout", "Cutout", "DropKey", "PatchDropout", "ShakeDrop", "ShakeShake", "SpecAugment"),
        *("SparseVariationalConv2d", "SparseVariationalLinear", "VariationalDropout", "WordDropout"),
    },
    "blocks": {*(f"drop_block{d}d" for d in (1, 2, 3)), *(f"DropBlock{d}d" for d in (1, 2, 3))},
    "torch": {"drop_edge", "DropEdge"},
}


@pytest.fixture
def census(monkeypatch):
    """What a call runs."""
    found = set()

    def spy(module, name, said):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: found.add(said) or real(*a, **k))

    for said, (module, name) in KERNELS.items():
        spy(module, name, said)
    for module, name in OTHERS:
        spy(module, name, "torch")

    def ran(call):
        found.clear()
        call()
        return set(found)

    return ran


def expected(name):
    return {next((kernel for kernel, names in EXPECTED.items() if name in names), "dropout")}


def test_verbs(census):
    found = {n: census(lambda v=v: v.call(*v.inputs(), training=True, key=Key(3))) for n, v in VERBS.items()}
    assert found == {name: expected(name) for name in VERBS}


def test_layers(census):
    made = {name: keyed(layer.make().train(), 3) for name, layer in LAYERS.items()}
    found = {n: census(lambda n=n: made[n](*LAYERS[n].inputs())) for n in LAYERS}
    assert found == {name: expected(name) for name in LAYERS}
