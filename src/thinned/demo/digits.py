"""This file loads handwritten digits, defines the small network that reads them, and trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor, nn

from thinned import Key
from thinned.demo.section import Tick
from thinned.torch.nn import Dropout

TRAIN_IMAGES = 200
P = 0.5
_BATCH = 50  # divides the training images
_RATE = 1e-3


@dataclass(frozen=True)
class Digits:
    """One split: images of 64 pixels in [0, 1], float32, and their labels."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def split(seed: int) -> Digits:
    """200 images to train on, all others to test on, every digit in proportion."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, train_size=TRAIN_IMAGES, stratify=labels, random_state=seed)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return Digits(train_x.float(), train_y.long(), test_x.float(), test_y.long())


def network(hidden: int, dropout: Callable[[], nn.Module] = nn.Identity) -> nn.Sequential:
    """64-hidden-hidden-10 with ReLU, and what `dropout` makes after each hidden layer."""
    return nn.Sequential(
        nn.Linear(64, hidden),
        nn.ReLU(),
        dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        dropout(),
        nn.Linear(hidden, 10),
    )


def behind_dropout(net: nn.Sequential) -> list[tuple[int, Dropout, nn.Linear]]:
    """Each of our dropout layers with its place, and the linear layer that reads its output."""
    found = []
    for place, layer in enumerate(net):
        if isinstance(layer, Dropout):
            reader = net[place + 1]
            assert isinstance(reader, nn.Linear)
            found.append((place, layer, reader))
    return found


def train(
    hidden: int, name: str, dropout: Callable[[], nn.Module], data: Digits, epochs: int, seed: int, tick: Tick
) -> nn.Sequential:
    """A trained network, in evaluation mode.

    First weights and order of images depend on the seed alone, masks on the name as well. Torch's global
    generator is left as it was.
    """
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(hidden, dropout)
        optimizer = _optimizer(net)
        torch.manual_seed(Key(seed).fold(name).stream)
        for _ in range(epochs):
            for batch in torch.randperm(TRAIN_IMAGES, generator=order).view(-1, _BATCH):
                loss = nn.functional.cross_entropy(net(data.train_x[batch]), data.train_y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            tick(1)
    return net.eval()


def _optimizer(net: nn.Sequential) -> torch.optim.Optimizer:
    """Adam; a classic network gets its first weights and its steps in the units that its convention means.

    Behind classic dropout a weight does the work of 1/(1−p) times as large a one behind inverted dropout.
    Starting and stepping by that factor makes both the same function, trained the same way; equal numbers
    instead would compare two starts and two learning rates.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    factors = {
        layer.weight: 1 / (1 - drop.p) for _, drop, layer in behind_dropout(net) if drop.mode == "classic"
    }
    for parameter in net.parameters():
        factor = factors.get(parameter, 1.0)
        parameter.data.mul_(factor)
        groups.setdefault(factor, []).append(parameter)
    return torch.optim.Adam(
        [{"params": group, "lr": _RATE * factor} for factor, group in groups.items()], fused=True
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: quicker for matrices this small, and no bit depends on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def error(scores: Tensor, labels: Tensor) -> float:
    """The share of images whose highest score is not their label's, in [0, 1]."""
    return float((scores.argmax(dim=1) != labels).double().mean())
