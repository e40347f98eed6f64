"""Well-known modules of other packages: stand-ins of the same name and behaviour, and the packages' own."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thinned.torch import convert, keyed
from thinned.torch import nn as ours


class DropPath(nn.Module):
    """As timm has it."""

    def __init__(self, drop_prob=0.0, scale_by_keep=True):
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, scale_by_keep

    def forward(self, x):
        if not self.training or not self.drop_prob:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(1 - self.drop_prob)
        return x * (keep.div_(1 - self.drop_prob) if self.scale_by_keep else keep)


class SwinDropPath(DropPath):
    """As models of transformers have it, whose rate may be None."""


class StochasticDepth(nn.Module):
    """As torchvision has it."""

    def __init__(self, p, mode):
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, x):
        if not self.training or not self.p:
            return x
        size = [x.shape[0] if self.mode == "row" else 1] + [1] * (x.dim() - 1)
        return x * x.new_empty(size).bernoulli_(1 - self.p).div_(1 - self.p)


class StableDropout(nn.Module):
    """As DeBERTa has it."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob, self.count, self.context_stack = drop_prob, 0, None

    def forward(self, x):
        return F.dropout(x, self.drop_prob, self.training)


class DropBlock2d(nn.Module):
    """As timm and torchvision have it, by the name of its rate."""

    def __init__(self, rate, block_size, **options):
        super().__init__()
        setattr(self, rate, 0.2)
        self.name, self.block_size = rate, block_size
        vars(self).update(options)

    def forward(self, x):
        if not self.training:
            return x
        seeds = (torch.rand_like(x) < getattr(self, self.name) / self.block_size**2).to(x)
        blocks = F.max_pool2d(seeds, self.block_size, 1, self.block_size // 2)
        return x * (1 - blocks) / (1 - blocks).mean()


class PatchDropout(nn.Module):
    """As timm has it."""

    def __init__(self, prob, num_prefix_tokens=1, ordered=False, return_indices=False):
        super().__init__()
        self.prob, self.num_prefix_tokens = prob, num_prefix_tokens
        self.ordered, self.return_indices = ordered, return_indices

    def forward(self, x):
        if not self.training or not self.prob:
            return x
        n = self.num_prefix_tokens
        length = x.shape[1] - n
        keep = torch.argsort(torch.randn(x.shape[0], length), 1)[:, : max(1, int(length * (1 - self.prob)))]
        rest = x[:, n:].gather(1, keep.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        return torch.cat([x[:, :n], rest], 1)


KNOWN = {
    "timm DropPath": (lambda: DropPath(0.3, False), "DropPath(p=0.3, scale_by_keep=False)"),
    "transformers DropPath": (lambda: SwinDropPath(0.2), "DropPath(p=0.2)"),
    "no rate": (lambda: SwinDropPath(None), "DropPath(p=0.0)"),
    "row": (lambda: StochasticDepth(0.3, "row"), "StochasticDepth(p=0.3, mode=row)"),
    "batch": (lambda: StochasticDepth(0.3, "batch"), "StochasticDepth(p=0.3, mode=batch)"),
    "StableDropout": (lambda: StableDropout(0.1), "Dropout(p=0.1, inplace=False)"),
    "torchvision": (lambda: DropBlock2d("p", 3, eps=1e-6), "DropBlock2d(p=0.2, block_size=3"),
    "timm DropBlock": (lambda: DropBlock2d("drop_prob", 3, couple_channels=True), "couple_channels=True"),
    "PatchDropout": (lambda: PatchDropout(0.5, 2), "PatchDropout(p=0.5, prefix_tokens=2)"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_module_becomes_ours(name):
    make, expected = KNOWN[name]
    model = nn.Sequential(make())
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before = torch.get_rng_state()
    report = convert(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert not calls  # it was tried without its hooks
    assert report.swapped == {"0": f"thinned.torch.nn.{type(model[0]).__name__}"}
    assert type(model[0]) is getattr(ours, type(model[0]).__name__)
    assert expected in repr(model[0])
    x = torch.ones(8, 9, 6) if "Patch" in name else torch.ones(64, 4, 8, 8)
    model = keyed(model, 1)
    if model[0].p:
        assert model(x).shape != x.shape or (model(x) != x).any()
    assert torch.equal(model.eval()(x), x)


@pytest.mark.parametrize(
    "module",
    [
        DropBlock2d("drop_prob", 3, batchwise=True),
        PatchDropout(0.5, return_indices=True),
    ],
    ids=["batchwise", "indices"],
)
def test_an_option_that_ours_lacks_leaves_the_module(module):
    model = nn.Sequential(module)
    assert not convert(model).swapped
    assert type(model[0]) is type(module)


def test_timms_factor_of_the_rate_is_kept():
    model = nn.Sequential(DropBlock2d("drop_prob", 3, gamma_scale=0.25))
    convert(model)
    assert model[0].gamma_scale == 0.25


def test_a_module_that_does_not_act_as_its_name_says_is_left():
    class MyDropPath(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop_prob = 0.3

        def forward(self, x):
            return x * 2 if self.training else x

    model = nn.Sequential(MyDropPath())
    report = convert(model)
    assert not report.swapped
    assert "holds drop_prob=0.3 as a number" in report.possible["0"]
    assert model[0].drop_prob == 0.3
    assert model[0].training


def dropout_edge(edges, p, training):
    return edges


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.layerdrop = 0.1

    def forward(self, edges):
        return dropout_edge(edges, 0.5, self.training)


def test_functions_of_graphs_and_loops_over_layers_are_named_with_what_takes_their_place():
    (found,) = convert(Graph()).possible.values()
    assert "calls dropout_edge, in whose place thinned.torch.nn has DropEdge" in found
    assert "layerdrop=0.1 as a number, and thinned.torch.functional.layer_drop runs a loop" in found


PACKAGES = {
    "timm": ("timm.layers", lambda m: [m.DropPath(0.2), m.PatchDropout(0.5), m.DropBlock2d(0.1, 3)]),
    "torchvision": (
        "torchvision.ops",
        lambda m: [m.StochasticDepth(0.2, "row"), m.StochasticDepth(0.2, "batch"), m.DropBlock2d(0.1, 3)],
    ),
    "transformers": (
        "transformers.models.swin.modeling_swin",
        lambda m: [m.SwinDropPath(0.2)],
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_own_are_known(package):
    pytest.importorskip(package)
    name, make = PACKAGES[package]
    model = nn.Sequential(*make(importlib.import_module(name)))
    report = convert(model)
    assert list(report.swapped) == [name for name, _ in model.named_children()], report
