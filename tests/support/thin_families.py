"""Every family of thin sites, as a small model that `tests/torch/thin` compares with its masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    """A model by its p, its inputs, how many sites become thin, and whether the batch can be in groups."""

    make: Callable[[float], torch.nn.Module]
    shape: tuple[int, ...]
    sites: int
    groups: bool = True


FAMILIES = {
    "units": Family(chain, (9, 6), 3),
    "units of sequences": Family(chain, (4, 5, 6), 3),
    "gated": Family(Gated, (4, 5, 6), 1),
    "channels 1d": Family(lambda p: convolutions(p, 1), (5, 3, 9), 2),
    "channels 2d": Family(lambda p: convolutions(p, 2), (5, 3, 9, 8), 2),
    "channels 3d": Family(lambda p: convolutions(p, 3), (3, 3, 7, 6, 6), 2),
    "a block": Family(lambda p: Block(p, nn.DropPath(p)), (8, 3, 6), 2, groups=False),
    "unscaled": Family(lambda p: Block(0.0, nn.DropPath(p, scale_by_keep=False)), (8, 3, 6), 2, groups=False),
    "rows": Family(lambda p: Block(0.0, nn.StochasticDepth(p, "row")), (8, 3, 6), 2, groups=False),
    "a batch": Family(lambda p: Block(p, nn.StochasticDepth(p, "batch")), (8, 3, 6), 2, groups=False),
    "attention": Family(Attention, (8, 3, 6), 1, groups=False),
}


def made(
    name: str, p: float, key: int | None = 1, groups: int = 1, fixed: bool = False
) -> tuple[torch.nn.Module, Tensor]:
    """A family's model, thin and keyed, and an input."""
    torch.manual_seed(5)
    family = FAMILIES[name]
    model = family.make(p).double()
    report = thin(model, groups, fixed=fixed)
    assert len(report.thinned) == family.sites, str(report)
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
