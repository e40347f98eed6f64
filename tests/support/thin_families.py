"""Every family of thin sites, as a small model that `tests/torch/thin` compares with its masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from thinned.torch import keyed, masked, nn, thin


class Gated(torch.nn.Module):
    """The MLP of a LLaMA-like block, with dropout of its hidden layer."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.gate, self.up, self.down = (torch.nn.Linear(*s) for s in ((6, 20), (6, 20), (20, 6)))
        self.dropout = torch.nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.dropout(F.silu(self.gate(x)) * self.up(x)))


class Block(torch.nn.Module):
    """A residual block whose MLP has a hidden site, and stochastic depth at its end."""

    def __init__(self, p: float, path: torch.nn.Module) -> None:
        super().__init__()
        self.norm, self.up, self.down = torch.nn.LayerNorm(6), torch.nn.Linear(6, 20), torch.nn.Linear(20, 6)
        self.hidden, self.path = torch.nn.Dropout(p), path

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(self.down(self.hidden(F.gelu(self.up(self.norm(x))))))


class Attention(torch.nn.Module):
    """As ViTs write it, with stochastic depth behind it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = torch.nn.LayerNorm(6), torch.nn.Linear(6, 18), torch.nn.Linear(6, 6)
        self.path = nn.DropPath(p)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(x)
        batch, tokens, width = inner.shape
        qkv = self.qkv(inner).reshape(batch, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        shares = (q @ k.transpose(-2, -1)).softmax(dim=-1)
        return x + self.path(self.out((shares @ v).transpose(1, 2).reshape(batch, tokens, width)))


class Causal(torch.nn.Module):
    """As GPTs write it, with dropout of heads."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = (
            torch.nn.LayerNorm(12),
            torch.nn.Linear(12, 36),
            torch.nn.Linear(12, 12),
        )
        self.heads = nn.DropHead(p)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(x)
        batch, tokens, width = inner.size()
        q, k, v = self.qkv(inner).split(width, dim=2)
        q, k, v = (part.view(batch, tokens, 4, width // 4).transpose(1, 2) for part in (q, k, v))
        y = self.heads(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.out(y.transpose(1, 2).contiguous().view(batch, tokens, width))


class Stacked(torch.nn.Module):
    """As timm writes it, with norms of query and key, a mask that it holds, and a branch that drops too."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = torch.nn.LayerNorm(8), torch.nn.Linear(8, 24), torch.nn.Linear(8, 8)
        self.q_norm, self.k_norm, self.drop = (
            torch.nn.LayerNorm(2),
            torch.nn.LayerNorm(2),
            nn.Dropout(0.0),
        )
        self.heads, self.path = nn.DropHead(p, shared=True), nn.DropPath(p)
        self.register_buffer("later", torch.ones(1, 1, 9, 9).triu(1).bool(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(x)
        batch, tokens, width = inner.shape
        qkv = self.qkv(inner).reshape(batch, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scores = (self.q_norm(q) * 0.7) @ self.k_norm(k).transpose(-2, -1)
        scores = scores.masked_fill(self.later[:, :, :tokens, :tokens], -torch.inf)
        y = self.heads(self.drop(scores.softmax(dim=-1)) @ v)
        return x + self.path(self.proj(y.transpose(1, 2).reshape(batch, tokens, width)))


class Separate(torch.nn.Module):
    """Query, key and value by maps of their own, rotated by position, and this library's attention."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (torch.nn.Linear(12, 12) for _ in range(4))
        self.attend, self.heads = nn.ScaledDotProductAttention(), nn.DropHead(p)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).unflatten(-1, (3, 4)).transpose(1, 2) for each in (self.q, self.k, self.v))
        angle = torch.arange(x.shape[1], dtype=q.dtype)[:, None] * torch.ones(4, dtype=q.dtype)
        q, k = (t * angle.cos() + torch.cat((-t[..., 2:], t[..., :2]), dim=-1) * angle.sin() for t in (q, k))
        return self.out(self.heads(self.attend(q, k, v)).transpose(1, 2).flatten(-2))


class Multihead(torch.nn.Module):
    """This library's attention with projections."""

    def __init__(self, p: float, **options: Any) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(12, 4, head_p=p, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        output, weights = self.attend(x, x, x, average_attn_weights=False)
        return output + weights.sum((1, 3))[..., None]  # type: ignore[no-any-return]


class Crossed(Multihead):
    """The same, of keys of another width, without weights, and in a residual branch."""

    def __init__(self, p: float) -> None:
        super().__init__(p, kdim=4, vdim=5, add_bias_kv=True, add_zero_attn=True)
        self.norm, self.path = torch.nn.LayerNorm(12), nn.DropPath(p)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(x)
        output, _ = self.attend(inner, inner[..., :4], inner[..., :5], need_weights=False)
        return x + self.path(output)


class Table(torch.nn.Module):
    """Words by rank of the input, a table of few or many of them, dropout of its columns, and a map."""

    def __init__(self, p: float, words: int) -> None:
        super().__init__()
        self.table, self.drop = torch.nn.Embedding(words, 6, padding_idx=1), torch.nn.Dropout(p)
        self.map, self.out = torch.nn.Linear(6, 20), torch.nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.map(self.drop(self.table(x.argsort(-1)))))) + x.mean()  # type: ignore[no-any-return]


class Recurrent(torch.nn.Module):
    """A recurrent layer that drops features and whole units, with a map behind."""

    def __init__(self, p: float, kind: Any, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(6, 7, 2, dropout=p, input_p=p, output_p=p, hidden_p=p, **options)
        width = 14 if options.get("bidirectional") else 7
        self.drop, self.out = nn.LockedDropout(p, batch_first=True), torch.nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.rnn(x)
        last = state[0] + state[1] if isinstance(state, tuple) else state
        return self.out(self.drop(y)) + last.sum()  # type: ignore[no-any-return]


def chain(p: float) -> torch.nn.Module:
    layers: list[torch.nn.Module] = [nn.Dropout(p)]
    for size in (6, 20):
        layers += [torch.nn.Linear(size, 20), torch.nn.ReLU(), torch.nn.Dropout(p)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(20, 3))


def convolutions(p: float, rank: int) -> torch.nn.Module:
    conv, norm, pool, drop = (
        getattr(torch.nn, f"{name}{rank}d") for name in ("Conv", "BatchNorm", "MaxPool", "Dropout")
    )
    model = torch.nn.Sequential(
        *(conv(3, 8, 3, padding=1, padding_mode="circular"), norm(8), torch.nn.ReLU(), drop(p), pool(2)),
        *(conv(8, 8, 3, bias=False), torch.nn.GELU(), drop(p), conv(8, 2, 1)),
    )
    with torch.no_grad():
        model[1].running_mean.uniform_(-1, 1)
        model[1].running_var.uniform_(0.5, 2)
    model[1].eval()
    return model


@dataclass(frozen=True)
class Family:
    """A model by its p, its inputs, how many sites become thin, and what `thin` can say of it.

    What is `full` is left out of the quick tier, in which another family has the same code. Of what is not
    `static` a fixed number is masked in compiled code.
    """

    make: Callable[[float], torch.nn.Module]
    shape: tuple[int, ...]
    sites: int
    groups: bool = True
    fixed: bool = True
    full: bool = False
    static: bool = True


FAMILIES = {
    "units": Family(chain, (9, 6), 3),
    "units of sequences": Family(chain, (4, 5, 6), 3, full=True),
    "gated": Family(Gated, (4, 5, 6), 1),
    "channels 1d": Family(lambda p: convolutions(p, 1), (5, 3, 9), 2),
    "channels 2d": Family(lambda p: convolutions(p, 2), (5, 3, 9, 8), 2),
    "channels 3d": Family(lambda p: convolutions(p, 3), (3, 3, 7, 6, 6), 2, full=True),
    "a block": Family(lambda p: Block(p, nn.DropPath(p)), (8, 3, 6), 2, groups=False),
    "unscaled": Family(lambda p: Block(0.0, nn.DropPath(p, scale_by_keep=False)), (8, 3, 6), 2, groups=False),
    "rows": Family(lambda p: Block(0.0, nn.StochasticDepth(p, "row")), (8, 3, 6), 2, groups=False),
    "a batch": Family(lambda p: Block(p, nn.StochasticDepth(p, "batch")), (8, 3, 6), 2, groups=False),
    "heads": Family(Causal, (6, 5, 12), 1, static=False),
    "heads of a branch": Family(Stacked, (8, 5, 8), 2, groups=False, full=True, static=False),
    "heads of three maps": Family(Separate, (6, 5, 12), 1, full=True, static=False),
    "heads and projections": Family(Multihead, (6, 5, 12), 1, groups=False, fixed=False, full=True),
    "heads of other inputs": Family(Crossed, (6, 5, 12), 2, groups=False, fixed=False),
    "LSTM": Family(
        lambda p: Recurrent(p, nn.LSTM, weight_p=p), (4, 5, 6), 2, groups=False, fixed=False, full=True
    ),
    "GRU": Family(
        lambda p: Recurrent(p, nn.GRU, bidirectional=True), (5, 4, 6), 2, groups=False, fixed=False
    ),
    "a small table": Family(lambda p: Table(p, 7), (4, 6), 1),
    "a large table": Family(lambda p: Table(p, 99), (4, 6), 1, full=True),
    "attention": Family(Attention, (8, 3, 6), 1, groups=False),
}


def of_each(names: Iterable[str] = FAMILIES) -> pytest.MarkDecorator:
    """A test of each of these families, by its name."""
    marks = {name: (pytest.mark.full,) if FAMILIES[name].full else () for name in names}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in marks.items()])


def made(
    name: str, p: float, key: int | None = 1, groups: int = 1, fixed: bool = False
) -> tuple[torch.nn.Module, Tensor]:
    """A family's model, thin and keyed, and an input."""
    torch.manual_seed(5)
    family = FAMILIES[name]
    model = family.make(p).double()
    report = thin(model, groups, fixed=fixed)
    assert p == 0 or len(report.thinned) == family.sites, str(report)
    if key is not None:
        keyed(model, key)
    return model, torch.randn(family.shape, dtype=torch.float64)


def step(model: torch.nn.Module, x: Tensor, masks: bool = False) -> dict[str, Tensor]:
    """Output and all gradients, by the same seed."""
    torch.manual_seed(9)
    for parameter in model.parameters():
        parameter.grad = None
    x = x.detach().clone().requires_grad_()
    if masks:
        with masked():
            y = model(x)
            (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
    else:
        y = model(x)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"output": y.detach(), "input": x.grad, **grads}


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Equal to the rounding of float64."""
    return all(torch.allclose(one[name], other[name], rtol=1e-11, atol=1e-12) for name in one)
