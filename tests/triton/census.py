"""Which verbs and layers run a kernel where one serves, and which go by torch's own operators.

All public ones fall into it, and docs/torch/cuda.md has each one's kernel, or the reason of what runs none.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from gpu_page import kernels
from torch_sites import LAYERS, VERBS, floats

from thinned import Key
from thinned.torch import _plain, functional, keyed, nn
from thinned.torch._triton import _launch, _launch_attention, _launch_block, _launch_norm

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("kernels_serve_the_cpu")]

KERNELS = {
    "dropout and sum": (_launch, "add"),
    "numbers": (_launch, "numbers"),
    "norm": (_launch_norm, "forward"),
    "attention": (_launch_attention, "forward"),
    "DropBlock": (_launch_block, "drop_block"),
}
KINDS = {"drop": "dropout", "noise": "Gaussian", "alpha": "alpha"}
# Where the contract's bits come from torch's operators, which count as no kernel.
OTHERS = [(_plain, name) for name in ("keep_mask", "normal", "word")]
KEY = Key(3)
# What torch_sites has not, and the other way of what has two. On the CPU flex_attention goes another way than
# on a GPU.
WEIGHTS = " that returns weights"
BESIDE = {
    "keep_mask": lambda: functional.keep_mask((4, 6), 0.5, key=KEY),
    "FixedDropout": lambda: nn.FixedDropout(0.5, 2, key=KEY)(floats(4, 6)),
    "Masksembles": lambda: nn.Masksembles(6, 2, key=KEY)(floats(4, 6)),
    "MultiheadAttention with `need_weights=False`": lambda: keyed(nn.MultiheadAttention(8, 4, 0.5), 3)(
        *LAYERS["MultiheadAttention"].inputs(), need_weights=False
    ),
}


@pytest.fixture
def census(monkeypatch):
    """What a call runs."""
    found = set()

    def spy(module, name, said):
        real = getattr(module, name)

        def told(*a, **k):
            found.add(said(*a, **k))
            return real(*a, **k)

        monkeypatch.setattr(module, name, told)

    for kernel, (module, name) in KERNELS.items():
        spy(module, name, lambda *_, kernel=kernel, **__: kernel)
    spy(_launch, "dropout", lambda *a, **k: KINDS[a[7] if len(a) > 7 else k.get("kind", "drop")])
    for module, name in OTHERS:
        spy(module, name, lambda *_, **__: "none")

    def ran(call):
        found.clear()
        call()
        return found or {"none"}

    return lambda calls: {name: " and ".join(sorted(ran(call))) for name, call in calls.items()}


def rows(names):
    """The page's."""
    page = kernels()
    return {name: page.get(name, page.get(name + WEIGHTS)) for name in names}


def test_verbs(census):
    calls = {n: lambda v=v: v.call(*v.inputs(), training=True, key=KEY) for n, v in VERBS.items()}
    assert census(calls) == rows(VERBS)


def test_layers(census):
    made = {name: keyed(layer.make().train(), 3) for name, layer in LAYERS.items()}
    assert census({n: lambda n=n: made[n](*LAYERS[n].inputs()) for n in LAYERS}) == rows(LAYERS)


def test_what_is_no_site(census):
    assert census(BESIDE) == rows(BESIDE)
