"""docs/torch/thin-from.md, row by row: what is said to become thin does, and the report says it so."""

import re
from pathlib import Path

import pytest
import torch

from thinned.torch import nn, thin

TEXT = (Path(__file__).parents[3] / "docs" / "torch" / "thin-from.md").read_text()
ROWS = re.findall(r"^\| .+ \| .+ \| `(thin\(.+\))`: `(.+)` \|$", TEXT, re.MULTILINE)


class Residual(torch.nn.Module):
    def __init__(self, branch, path):
        super().__init__()
        self.branch, self.path = branch, path

    def forward(self, x):
        return x + self.path(self.branch(x))


def test_every_row_is_found():
    assert len(ROWS) == TEXT.count("| `thin(") == 9


@pytest.mark.parametrize(("code", "said"), ROWS)
def test_a_row(code, said):
    names = {**vars(torch.nn), "nn": nn, "thin": thin, "Residual": Residual}
    report = eval(code, names)
    assert not report.left
    assert report.share < 1
    assert said in str(report)
