"""A small GPT: converted, keyed, trained by accumulated gradients, with a checkpoint after each step.

`gpt.py FOLDER STEPS`: goes on from FOLDER's checkpoint if there is one; prints the digest at the end.
"""

import hashlib
import os
import sys
from pathlib import Path

import torch

from thinned.torch import convert, keyed, set_rows, set_step


class Block(torch.nn.Module):
    """Attention and a feed-forward network, each with a residual connection."""

    def __init__(self, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.norm, self.attention = (
            torch.nn.LayerNorm(width),
            torch.nn.MultiheadAttention(width, heads, p, batch_first=True),
        )
        self.feed = torch.nn.Sequential(
            torch.nn.LayerNorm(width), torch.nn.Linear(width, 4 * width), torch.nn.GELU(),
            torch.nn.Linear(4 * width, width), torch.nn.Dropout(p),
        )  # fmt: skip
        self.drop = torch.nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One block."""
        y = self.norm(x)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = x + self.drop(self.attention(y, y, y, attn_mask=mask, need_weights=False)[0])
        return x + self.feed(x)


class GPT(torch.nn.Module):
    """Characters to characters."""

    def __init__(self, words: int = 32, width: int = 32, p: float = 0.2) -> None:
        super().__init__()
        self.words, self.places = torch.nn.Embedding(words, width), torch.nn.Embedding(16, width)
        self.drop = torch.nn.Dropout(p)
        self.blocks = torch.nn.Sequential(Block(width, 2, p), Block(width, 2, p))
        self.head = torch.nn.Linear(width, words)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores of the next character."""
        return self.head(self.blocks(self.drop(self.words(tokens) + self.places.weight[: tokens.shape[1]])))


def main(folder: Path, steps: int) -> None:
    """Train, and print the digest of the weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = GPT()
    print(convert(model), file=sys.stderr)
    model = keyed(model, seed=1, check=torch.zeros(1, 16, dtype=torch.long))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    file, first = folder / "checkpoint.pt", 0
    if file.exists():
        saved = torch.load(file)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    for step in range(first, steps):
        tokens = torch.randint(32, (8, 17), generator=torch.Generator().manual_seed(step))
        set_step(model, step)
        optimizer.zero_grad()
        for begin in range(0, 8, 2):
            set_rows(model, range(begin, begin + 2), total=8)
            part = tokens[begin : begin + 2]
            scores = model(part[:, :-1])
            (torch.nn.functional.cross_entropy(scores.flatten(0, 1), part[:, 1:].flatten()) / 4).backward()
        optimizer.step()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
        torch.save(state, file.with_suffix(".new"))
        os.replace(file.with_suffix(".new"), file)
        print(step + 1, flush=True)
    weights = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
    print(hashlib.sha256(weights).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
