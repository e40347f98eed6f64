"""These rows compare a step of a thinned network with the same step without dropout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from thinned.bench._kinds import KINDS, NONE, OURS, TORCH, Kind
from thinned.bench._models import paper_network
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, race
from thinned.bench._verdict import Bound, at_most
from thinned.torch import thin
from thinned.torch.nn import DropPath

_THIN = "thin"

Make = Callable[[Settings, Kind], nn.Module]
Batch = Callable[[Settings], Tensor]
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


class _Mlp(nn.Module):
    """A residual block's second half: its hidden layer drops, or its whole branch."""

    def __init__(self, kind: Kind, width: int, hidden: float, path: float) -> None:
        super().__init__()
        inner = [nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU()]
        inner += [kind.dropout(hidden)] if hidden else []
        self.branch = nn.Sequential(*inner, nn.Linear(4 * width, width), *_path(path))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Its first half, without dropout of elements."""

    def __init__(self, width: int, heads: int, path: float, causal: bool) -> None:
        super().__init__()
        self.norm, self.heads, self.causal = nn.LayerNorm(width), heads, causal
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.path = nn.Sequential(*_path(path))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(x)
        batch, tokens, width = inner.shape
        parts = self.inward(inner).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return x + self.path(self.outward(out.transpose(1, 2).reshape(batch, tokens, width)))  # type: ignore[no-any-return]


def _path(p: float) -> list[nn.Module]:
    return [DropPath(p)] if p else []


def _blocks(
    kind: Kind, blocks: int, width: int, heads: int, hidden: float, path: float, causal: bool
) -> nn.Module:
    parts: list[nn.Module] = []
    for _ in range(blocks):
        parts += [_Attention(width, heads, path, causal), _Mlp(kind, width, hidden, path)]
    return nn.Sequential(*parts)


def _vit(settings: Settings, kind: Kind) -> nn.Module:
    drops = kind is not KINDS[NONE]
    return _blocks(kind, 4, 128, 4, 0.0, 0.4 if drops else 0.0, causal=False)


def _gpt(settings: Settings, kind: Kind) -> nn.Module:
    return _blocks(kind, 2, 256, 8, 0.5, 0.0, causal=True)


def _paper(settings: Settings, kind: Kind) -> nn.Module:
    return paper_network(kind, settings.size(1024))


def _convolutions(settings: Settings, kind: Kind) -> nn.Module:
    drops = kind is not KINDS[NONE]
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Dropout2d(0.5)] if drops else []
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16 * 16, 10))


def _step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-4)


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-5)


def _fused_adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)


def _row(
    name: str, make: Make, batch: Batch, bound: Bound, optimizer: Optimizer = _sgd, **options: bool
) -> Row:
    def measure(settings: Settings) -> Result:
        x = batch(settings)
        models = {NONE: make(settings, KINDS[NONE]), TORCH: make(settings, KINDS[TORCH])}
        models[_THIN] = thin(make(settings, KINDS[OURS]), **options).model
        steps = {one: _step(model, x, optimizer(model)) for one, model in models.items()}
        # Many steps of one model in turn, as in training. The first ones find the other models in the caches:
        # with two or three in turn the paper's network, batch 128, had 0.57 to 0.60, and with many 0.55.
        found = race(steps, replace(settings, batch=10 * settings.batch))
        return result(found, found.figure(_THIN, NONE, bound), found.figure(TORCH, NONE))

    return Row(f"thin training step, {name}", measure)


ROWS = (
    _row("the paper's network, batch 128", _paper, lambda s: torch.rand(128, 784), at_most(0.6)),
    _row(
        "the paper's network, batch 128, sparse=True",
        _paper,
        lambda s: torch.rand(128, 784),
        at_most(0.6),
        sparse=True,
    ),
    _row(
        "the paper's network, batch 128, fixed=True",
        _paper,
        lambda s: torch.rand(128, 784),
        at_most(0.6),
        fixed=True,
    ),
    _row("the paper's network, batch 1024", _paper, lambda s: torch.rand(s.size(1024), 784), at_most(0.5)),
    _row("the paper's network, AdamW", _paper, lambda s: torch.rand(128, 784), at_most(0.75), _adamw),
    _row(
        "the paper's network, AdamW, fused=True",
        _paper,
        lambda s: torch.rand(128, 784),
        at_most(0.75),
        _fused_adamw,
    ),
    _row(
        "a ViT's blocks, DropPath 0.4",
        _vit,
        lambda s: torch.randn(max(s.size(64), 2), s.size(64), 128),
        at_most(0.72),
    ),
    _row(
        "two GPT blocks, hidden 0.5",
        _gpt,
        lambda s: torch.randn(max(s.size(8), 2), s.size(256), 256),
        at_most(0.85),
    ),
    _row(
        "convolutions, channels 0.5",
        _convolutions,
        lambda s: torch.randn(max(s.size(32), 2), 3, 16, 16),
        at_most(0.6),
    ),
)
