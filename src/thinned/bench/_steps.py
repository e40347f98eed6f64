"""These rows train a whole network for a step: with our dropout, with torch's, and with none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import thinned.torch
from thinned.bench._kinds import NONE, OURS, TORCH, Kind, build
from thinned.bench._models import LanguageModel, VisionTransformer, gpt_blocks, paper_network
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, race
from thinned.bench._verdict import Bound, at_most

Loss = Callable[[nn.Module], Tensor]
Network = Callable[[Settings], tuple[Callable[[Kind], nn.Module], Loss]]

_TARGET = at_most(1.06)


def _step(model: nn.Module, loss: Loss) -> Callable[[], None]:
    """Takes one training step. Its learning rate is too small for the weights to grow over thousands."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    return step


def _row(name: str, network: Network, compiled: bool, target: Bound = _TARGET) -> Row:
    def measure(settings: Settings) -> Result:
        make, loss = network(settings)
        models = build(make)
        if compiled:
            # A short run only tries the row out; generating code would take most of it.
            backend = "inductor" if settings.shrink == 1 else "eager"
            torch.compiler.reset()
            for model in models.values():
                model.compile(backend=backend)
        found = race({name: _step(model, loss) for name, model in models.items()}, settings)
        return result(
            found,
            found.figure(OURS, NONE, target),
            found.figure(TORCH, NONE),
            found.figure(TORCH, OURS),
        )

    return Row(f"training step, {name}" + (", compiled" if compiled else ""), measure)


def _paper(settings: Settings) -> tuple[Callable[[Kind], nn.Module], Loss]:
    x, labels = torch.rand(128, 784), torch.randint(10, (128,))
    hidden = settings.size(1024)
    return (
        lambda kind: paper_network(kind, hidden),
        lambda model: nn.functional.cross_entropy(model(x), labels),
    )


def _gpt(settings: Settings) -> tuple[Callable[[Kind], nn.Module], Loss]:
    x = torch.randn(settings.size(8), settings.size(256), 256)
    return gpt_blocks, lambda model: model(x).square().mean()


def _fused_gpt(settings: Settings) -> tuple[Callable[[Kind], nn.Module], Loss]:
    _, loss = _gpt(settings)
    return lambda kind: gpt_blocks(kind, fused=True), loss


def _vit(settings: Settings) -> tuple[Callable[[Kind], nn.Module], Loss]:
    images, labels = torch.randn(settings.size(64), 3, 32, 32), torch.randint(10, (settings.size(64),))
    return (
        lambda kind: VisionTransformer(kind, 128, 64),
        lambda model: nn.functional.cross_entropy(model(images), labels),
    )


def _language(settings: Settings) -> tuple[Callable[[Kind], nn.Module], Loss]:
    words, width = settings.size(2000), settings.size(512)
    text = torch.randint(words, (36, 20))
    return (
        lambda kind: LanguageModel(kind, words, width),
        lambda model: nn.functional.cross_entropy(model(text[:-1]).flatten(0, 1), text[1:].flatten()),
    )


def _recurrent(settings: Settings) -> Result:
    """The layer alone, with everything that it can drop, against torch's fused one with nothing."""
    width = settings.size(512)
    x = torch.randn(35, 20, width)
    ours = thinned.torch.nn.LSTM(
        width, width, 2, dropout=0.3, weight_p=0.5, input_p=0.4, output_p=0.4, locked=True
    )

    def loss(model: nn.Module) -> Tensor:
        out: Tensor = model(x)[0].square().mean()
        return out

    layers = {"thinned.LSTM": ours, "nn.LSTM": nn.LSTM(width, width, 2)}
    found = race({name: _step(layer, loss) for name, layer in layers.items()}, settings)
    return result(found, found.figure("thinned.LSTM", "nn.LSTM", at_most(1.2)))


_NETWORKS = {
    "the paper's network": _paper,
    "two GPT blocks": _gpt,
    "a small ViT with DropPath": _vit,
    "an LSTM language model": _language,
}

ROWS = (
    *(_row(name, network, compiled) for compiled in (False, True) for name, network in _NETWORKS.items()),
    Row("training step, LSTM with weight and locked dropout", _recurrent),
)
FUSED = _row("two GPT blocks with fused attention", _fused_gpt, False, at_most(1.08))
