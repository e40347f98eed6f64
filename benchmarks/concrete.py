"""Concrete dropout's synthetic experiment: a line with noise of known size, and more and more of it.

    python benchmarks/concrete.py --out benchmarks/concrete.md

After Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017, section 4.1: y = 2x + 8 + ε, ε of deviation 1,
and a network that gives a mean and a variance. What the network cannot know falls with the data, and p with
it; what the noise adds stays, and is found.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thinned import Key
from thinned.mc.torch import active
from thinned.torch import keyed, regularization, set_step
from thinned.torch.nn import ConcreteDropout

NOISE = 1.0
SIZES = (25, 200, 1600, 12800)
SEEDS = 5
_DRAWS = 30


def data(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """The paper's: x of a standard normal, a line, and noise."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 1, generator=drawn)
    return x, 2.0 * x + 8.0 + NOISE * torch.randn(samples, 1, generator=drawn)


def network(width: int, samples: int) -> nn.Sequential:
    """Three hidden layers, whose rates are learned; a mean, and the logarithm of a variance."""

    def linear(inputs: int, outputs: int) -> nn.Module:
        return ConcreteDropout(nn.Linear(inputs, outputs), 0.1, samples=samples, length_scale=1e-2)

    return nn.Sequential(
        nn.Linear(1, width),
        nn.ReLU(),
        linear(width, width),
        nn.ReLU(),
        linear(width, width),
        nn.ReLU(),
        linear(width, 2),
    )


def likelihood(output: Tensor, y: Tensor) -> Tensor:
    """The mean negative log-likelihood of a normal distribution, but for a constant."""
    mean, log_variance = output.chunk(2, 1)
    return (((y - mean).square() * (-log_variance).exp() + log_variance) / 2.0).mean()


def train(samples: int, width: int, steps: int, seed: int) -> dict[str, float]:
    """The mean of the learned rates, the noise that was found, and the deviation between networks."""
    x, y = data(samples, seed)
    torch.manual_seed(seed)
    model = keyed(network(width, samples), Key(seed).fold(samples))
    rates = [p for name, p in model.named_parameters() if name.endswith("p_logit")]
    others = [p for name, p in model.named_parameters() if not name.endswith("p_logit")]
    optimizer = torch.optim.Adam([{"params": others, "lr": 5e-3}, {"params": rates, "lr": 3e-2}], fused=True)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        batch = torch.randint(samples, (min(128, samples),), generator=order)
        set_step(model, step)
        optimizer.zero_grad()
        (likelihood(model(x[batch]), y[batch]) + regularization(model)).backward()
        optimizer.step()
    model.eval()
    at = torch.linspace(-1.5, 1.5, 31)[:, None]
    with torch.no_grad(), active(model, key=Key(seed).fold("draws")):
        draws = torch.stack([model(at) for _ in range(_DRAWS)])
    means, log_variances = draws.double().unbind(-1)
    return {
        "p": float(torch.stack(rates).detach().sigmoid().mean()),
        "noise": float(log_variances.exp().mean().sqrt()),
        "networks": float(means.var(0).mean().sqrt()),
    }


def run(sizes: tuple[int, ...], seeds: int, width: int, steps: int) -> dict[int, dict[str, list[float]]]:
    """Every size, every seed."""
    torch.set_num_threads(1)
    found: dict[int, dict[str, list[float]]] = {}
    for samples in sizes:
        each = [train(samples, width, steps, seed) for seed in range(seeds)]
        found[samples] = {name: [one[name] for one in each] for name in each[0]}
        print(
            samples, {name: [round(value, 4) for value in values] for name, values in found[samples].items()}
        )
    return found


def figure(values: list[float]) -> str:
    """Mean ± standard error."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    digits = 3 if mean >= 0.01 else 4
    return f"{mean:.{digits}f} ± {math.sqrt(variance / len(values)):.{digits}f}"


def table(found: dict[int, dict[str, list[float]]]) -> str:
    """As Markdown."""
    lines = [
        "| N | p, mean of the layers | noise found (true: 1) | deviation between networks |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {samples:,} | {figure(each['p'])} | {figure(each['noise'])} | {figure(each['networks'])} |"
        for samples, each in found.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table and the numbers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400)
    asked = parser.parse_args()
    found: Any = run(SIZES, SEEDS, asked.width, asked.steps)
    asked.out.write_text(table(found), encoding="utf-8")
    numbers = {"width": asked.width, "steps": asked.steps, "noise": NOISE, "found": found}
    asked.out.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
