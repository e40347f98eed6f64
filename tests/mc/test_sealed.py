"""A trace is used only where no value of an input or a mask decided anything, by whatever way it was read."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from mc import zoo
from torch import nn

import thinned
from thinned.mc.torch import predict

KEY = thinned.Key(3)


class Decides(nn.Module):
    """Its path depends on a value, read in one way or another; the first row's is not the others'."""

    def __init__(self, read):
        super().__init__()
        self.drop, self.read = nn.Dropout(0.5), read

    def forward(self, x):
        return self.drop(x) * (2.0 if self.read(x) else 3.0)


def written(x):
    """A constant that becomes none."""
    out = torch.zeros(4)
    out[1:] = x[0, 1:]
    return out


def later(x):
    """The same by way of a view."""
    out = torch.zeros(2, 4)
    row = out[1]
    row.add_(x[0])
    return out


READS = {
    "numpy": lambda x: x.numpy()[0, 0] > 0,
    "detach cpu numpy": lambda x: x.detach().cpu().numpy()[0, 0] > 0,
    "asarray": lambda x: np.asarray(x)[0, 0] > 0,
    "from dlpack": lambda x: np.from_dlpack(x)[0, 0] > 0,
    "to dlpack": lambda x: torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x))[0, 0] > 0,
    "tolist": lambda x: x.tolist()[0][0] > 0,
    "nonzero": lambda x: x.clamp_min(0).nonzero().shape[0] > 2,
    "a mask's length": lambda x: len(x[x > 0]) > 2,
    "where": lambda x: len(torch.where(x > 0)[0]) > 2,
    "unique": lambda x: len(torch.unique(x.relu() * torch.arange(4))) == 4,
    "str": lambda x: "-" not in str(x),
    "repr": lambda x: "-" not in repr(x[0]),
    "format": lambda x: "-" not in f"{x.sum()}",
    "float": lambda x: float(x.sum()) > 0,
    "item": lambda x: x[0, 0].item() > 0,
    "bool": lambda x: bool(x.sum() > 0),
    "if": lambda x: x.sum() > 0,
    "in": lambda x: -1.0 not in x,
    "equal": lambda x: torch.equal(x, x.abs()),
    "allclose": lambda x: torch.allclose(x, x.abs()),
    "math": lambda x: math.copysign(1, x[0, 0]) > 0,
    "max": lambda x: max(x[0]) > 0,
    "an index": lambda x: [0, 1][(x[0, 0] > 0).long()],
    "pickle": lambda x: pickle.loads(pickle.dumps(x))[0, 0] > 0,
    "save": lambda x: (torch.save(x, f := io.BytesIO()), f.seek(0), torch.load(f))[2][0, 0] > 0,
    "storage": lambda x: x.clone().untyped_storage().tolist()[3] < 128,
    "typed storage": lambda x: x.clone().storage().tolist()[0] > 0,
    "a copy": lambda x: copy.deepcopy(x).numpy()[0, 0] > 0,
    "written to a constant": lambda x: written(x).sum().item() > 0,
    "written and numpy": lambda x: written(x).numpy()[1] > 0,
    "written and tolist": lambda x: written(x).tolist()[1] > 0,
    "written and printed": lambda x: "-" not in str(written(x)),
    "written by a view": lambda x: later(x).numpy()[1, 1] > 0,
    "an address": lambda x: (
        (np.ctypeslib.as_array((__import__("ctypes").c_float * 4).from_address(x.data_ptr())))[0] > 0
    ),
}
X = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1], [2, 2, 2, 2]])


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("way", READS)
def test_no_row_takes_the_path_of_the_first(way):
    with pytest.warns(UserWarning, match=r"runs input by input, sample by sample: .*(value|data)"):
        found = predict(Decides(READS[way]), X, samples=4, key=KEY, keep=True).draws
    for k in range(4):
        for i in range(3):
            y = thinned.dropout(X[i : i + 1].numpy(), 0.5, key=KEY.fold(k).fold(i).fold(0), training=True)
            assert np.array_equal(found[k, i], y[0] * (3 if i == 1 else 2))


@pytest.mark.parametrize("way", ["numpy", "tolist", "nonzero", "str", "item", "written and numpy"])
def test_no_sample_takes_the_path_of_another_mask(way):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            y = self.drop(x)
            return y * (2.0 if READS[way](y - 0.1) else 3.0)

    x = torch.ones(3, 4)
    with pytest.warns(UserWarning, match="runs input by input"):
        found = predict(Masked(), x, samples=6, key=KEY, keep=True).draws
    assert {4.0, 6.0} <= set(found.ravel())


CONSTANTS = {
    "a buffer's value": lambda m, x: x * m.scale.item(),
    "a buffer's numpy": lambda m, x: x * float(m.scale.numpy()),
    "a buffer printed": lambda m, x: x if "2" in str(m.scale) else -x,
    "a length": lambda m, x: x * torch.arange(x.shape[1]).tolist()[1],
    "a made mask": lambda m, x: x * len(torch.ones(x.shape).nonzero()),
    "filled row by row": lambda m, x: filled(x),
}


def filled(x):
    out = torch.zeros(x.shape[0], 2, 4)
    for t in range(2):
        out[:, t] = x * t
    return out.sum(1)


@pytest.mark.parametrize("what", CONSTANTS)
def test_what_depends_on_no_input_may_be_read(what, recwarn):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor(2.0))
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return CONSTANTS[what](self, self.drop(x))

    predict(Reads(), X, samples=4, key=KEY, outputs="values")
    assert not recwarn.list


@pytest.mark.parametrize("name", zoo.CASES)
def test_models_that_decide_nothing_are_traced(name, recwarn):
    case = zoo.CASES[name]
    model, x = zoo.build(case)
    predict(model, x, samples=3, key=KEY, also=case.named, outputs="values")
    assert not recwarn.list


def test_what_a_module_notes_of_a_pass_is_a_tensor_with_data():
    class Notes(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.mask, self.last = nn.Dropout(0.5), None, None

        def forward(self, x):
            if self.mask is None or len(self.mask) != len(x):
                self.mask = x.new_ones(x.shape)
            self.last = self.drop(x)
            return self.last * self.mask

    model = Notes()
    predict(model, X, samples=3, key=KEY, outputs="values")
    assert model(torch.ones(1, 4)).shape == (1, 4)
    assert set(model.last.flatten().tolist()) <= {0.0, 2.0}
