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


class Cells(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.DropoutWrapper(torch.nn.LSTMCell(4, 8), 0.5), torch.nn.Linear(8, 2)

    def forward(self, x, state):
        return self.out(self.cell(x, state)[0])


INSIDE = {
    "a recurrent layer of torch": (torch.nn.Sequential(torch.nn.LSTM(4, 8, 2, dropout=0.5)), {"0"}),
    "attention of torch": (
        torch.nn.TransformerEncoderLayer(8, 2, 16),
        {"dropout", "dropout1", "dropout2", "self_attn"},
    ),
    "a loop over cells": (Cells(), {"cell"}),
}


@pytest.mark.parametrize(("model", "sites"), INSIDE.values(), ids=INSIDE)
def test_the_report_names_all_that_stays_masked(model, sites):
    report = thin(model)
    assert not report.thinned
    assert set(report.left) == sites
    assert not any("nothing that is not" in why for why in report.left.values())
