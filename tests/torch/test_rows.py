"""Parts of a batch, and parts of any tensor: masks are those of the whole, wherever a part was taken."""

import copy
import pickle
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned._position import positions
from thinned.torch import functional, keyed, nn, set_rows, set_step
from thinned.torch._mesh._shard import extent

MAPS, SEQUENCES = torch.randn(6, 4, 8, 8), torch.randn(6, 5, 7)
IN_TIME = SEQUENCES.transpose(0, 1)
PARTS = [range(0, 6, 2), range(1, 6, 2), range(2, 6), range(5, 6), range(0)]


class Unrolled(torch.nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        return self.cell.unroll(x)[0]


# Layer, input, dimension of the batch.
LAYERS = {
    "Dropout": (lambda: nn.Dropout(0.5), MAPS, 0),
    "Dropout, noise_shape": (lambda: nn.Dropout(0.5, noise_shape=(None, 1, None, 1)), MAPS, 0),
    "Dropout, batch second": (lambda: nn.Dropout(0.5), IN_TIME, 1),
    "Dropout, p by channel": (
        lambda: nn.Dropout(torch.tensor([0.1, 0.9, 0.5, 1.0])[None, :, None, None]),
        MAPS,
        0,
    ),
    "Dropout1d": (lambda: nn.Dropout1d(0.5), SEQUENCES, 0),
    "Dropout2d": (lambda: nn.Dropout2d(0.5), MAPS, 0),
    "Dropout3d": (lambda: nn.Dropout3d(0.5), MAPS[:, :, None], 0),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.5), MAPS, 0),
    "FeatureAlphaDropout": (lambda: nn.FeatureAlphaDropout(0.5), MAPS, 0),
    "GaussianDropout": (lambda: nn.GaussianDropout(0.5), MAPS, 0),
    "DropPath": (lambda: nn.DropPath(0.5), MAPS, 0),
    "StochasticDepth row": (lambda: nn.StochasticDepth(0.5, "row"), MAPS, 0),
    "StochasticDepth batch": (lambda: nn.StochasticDepth(0.5, "batch"), MAPS, 0),
    "DropBlock2d": (lambda: nn.DropBlock2d(0.3, 3), MAPS, 0),
    "LockedDropout": (lambda: nn.LockedDropout(0.5, batch_first=True), SEQUENCES, 0),
    "LockedDropout, batch second": (lambda: nn.LockedDropout(0.5, batch_first=False), IN_TIME, 1),
}
# Where matrices are multiplied only rounding may differ.
ROUNDED = {
    "DropConnectLinear": (lambda: nn.DropConnectLinear(7, 3), SEQUENCES, 0),
    "LSTM": (
        lambda: nn.LSTM(7, 3, 2, True, True, 0.5, weight_p=0.3, output_p=0.5, locked=False),
        SEQUENCES,
        0,
    ),
    "GRU": (lambda: nn.GRU(7, 3, 2, dropout=0.5, input_p=0.2, output_p=0.5), IN_TIME, 1),
    "ZoneoutCell": (lambda: Unrolled(nn.ZoneoutCell(torch.nn.LSTMCell(7, 3), 0.5, 0.5)), IN_TIME, 1),
    "DropoutWrapper": (
        lambda: Unrolled(nn.DropoutWrapper(torch.nn.LSTMCell(7, 3), 0.5, 0.5, 0.5)),
        IN_TIME,
        1,
    ),
}


def of(layer, *inputs):
    y = layer(*inputs)
    return y[0] if isinstance(y, tuple) else y


def parts(model, x, dim):
    for rows in PARTS:
        at = torch.tensor(list(rows), dtype=torch.long)
        set_rows(model, rows, 6, dim=dim)
        yield at, x.index_select(dim, at)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_drops_a_part_as_the_whole(name):
    make, x, dim = LAYERS[name]
    model = set_step(keyed(torch.nn.Sequential(make()), 1), 5)
    whole = model(x)
    for at, part in parts(model, x, dim):
        assert torch.equal(model(part), whole.index_select(dim, at))
    assert torch.equal(set_rows(model, None)(x), whole)


@pytest.mark.parametrize("name", ROUNDED)
def test_a_layer_that_multiplies_matrices(name):
    make, x, dim = ROUNDED[name]
    model = keyed(torch.nn.Sequential(make()), 1).double()
    x = x.double()
    whole = of(model, x)
    others = of(model, x.flip(dim)).flip(dim)
    assert not torch.allclose(whole, others, rtol=1e-3), "a sample's place in the batch is in its mask"
    for at, part in parts(model, x, dim):
        if len(at):
            torch.testing.assert_close(of(model, part), whole.index_select(dim, at), rtol=1e-11, atol=1e-13)


def test_layers_of_two_inputs():
    add = keyed(torch.nn.ModuleList([nn.DropoutAdd(0.5)]), 1)
    attend = keyed(torch.nn.ModuleList([nn.ScaledDotProductAttention(0.5)]), 1)
    sums, looks = add[0](MAPS, MAPS + 1), attend[0](MAPS, MAPS, MAPS)
    for at, part in parts(add, MAPS, 0):
        assert torch.equal(add[0](part, part + 1), sums[at])
    for at, part in parts(attend, MAPS, 0):
        torch.testing.assert_close(attend[0](part, part, part), looks[at], rtol=1e-5, atol=1e-6)


def test_a_packed_sequence():
    lengths = torch.tensor([5, 3, 4, 2, 5, 1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        SEQUENCES, lengths, batch_first=True, enforce_sorted=False
    )
    model = keyed(torch.nn.Sequential(nn.LockedDropout(0.5, batch_first=True)), 1)
    whole, _ = torch.nn.utils.rnn.pad_packed_sequence(model(packed), batch_first=True)
    set_rows(model, range(1, 6, 2), 6)
    part = torch.nn.utils.rnn.pack_padded_sequence(SEQUENCES[1::2], lengths[1::2], True, enforce_sorted=False)
    got, _ = torch.nn.utils.rnn.pad_packed_sequence(model(part), batch_first=True)
    assert torch.equal(got, whole[1::2, : got.shape[1]])


def test_gradients_have_the_same_part():
    model = keyed(torch.nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.3), nn.DropPath(0.2)), 1)
    x = MAPS.clone().requires_grad_()
    model(x).square().sum().backward()
    for at, part in parts(model, MAPS, 0):
        for again in (False, True):
            leaf = part.clone().requires_grad_()
            set_step(model, 0)
            y = checkpoint(model, leaf, use_reentrant=False) if again else model(leaf)
            y.square().sum().backward()
            assert torch.equal(leaf.grad, x.grad[at])


def test_compiled_code_has_a_graph_for_each_part():
    torch.compiler.reset()
    model = keyed(torch.nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5), nn.DropBlock2d(0.2, 2)), 1)
    whole = model(MAPS)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for rows in (range(3), range(3, 6), range(1, 6, 2)):
        set_rows(model, rows, 6)
        assert torch.equal(compiled(MAPS[list(rows)]), whole[list(rows)])


def test_evaluation_asks_for_no_rows():
    model = set_rows(
        torch.nn.Sequential(nn.Dropout(0.5, mode="classic"), nn.Dropout2d(0.5)), range(2), 4
    ).eval()
    assert torch.equal(model(MAPS), MAPS * 0.5)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_know_their_rows(again):
    model = set_rows(keyed(torch.nn.Sequential(nn.Dropout(0.5)), 1), range(3, 6), 6)
    assert torch.equal(again(model)(MAPS[3:]), model(MAPS[3:]))
    assert model.state_dict() == {}


@pytest.mark.parametrize(
    ("rows", "total", "error", "words"),
    [
        ((0, 3), 6, TypeError, r"rows must be a range or None, got \(0, 3\)"),
        (range(3), None, TypeError, "total must be an integer, got None"),
        (range(3, 9), 6, ValueError, r"rows range\(3, 9\) are not in a batch of total=6"),
        (range(-1, 2), 6, ValueError, "are not in a batch"),
        (range(5, 2, -1), 6, ValueError, "are not in a batch"),
    ],
)
def test_rows_that_are_none(rows, total, error, words):
    with pytest.raises(error, match=words):
        set_rows(torch.nn.Sequential(nn.Dropout()), rows, total)


def test_an_input_of_other_rows():
    model = set_rows(torch.nn.Sequential(nn.Dropout()), range(3), 6)
    with pytest.raises(ValueError, match=r"told of 3 rows, and dimension 0 of shape \(6, 5, 7\) does not"):
        model(SEQUENCES)
    with pytest.raises(ValueError, match="model has no site"):
        set_rows(torch.nn.Linear(2, 2), range(3), 6)


class Watching(TorchDispatchMode):
    """Under which a call takes the way of compiled code and of tensor subclasses."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def test_a_part_of_size_one_is_not_shared():
    """In an operator's noise shape its size says nothing: rows 0 and 3 have their own decisions."""
    x = torch.ones(4, 50)
    whole = functional.dropout(x, 0.5, True, key=Key(1), noise_shape=(None, None))
    rows = functional.dropout(x, 0.5, True, key=Key(1), noise_shape=(None, 1))
    for n in range(4):
        place = {"key": Key(1), "global_shape": (4, 50), "start": (n, 0)}
        for way in (nullcontext(), Watching()):
            with way:
                own = functional.dropout(x[n : n + 1], 0.5, True, noise_shape=(None, None), **place)
                shared = functional.dropout(x[n : n + 1], 0.5, True, noise_shape=(None, 1), **place)
            assert torch.equal(own, whole[n : n + 1])
            assert torch.equal(shared, rows[n : n + 1])


@pytest.mark.parametrize("verb", [functional.dropout, functional.gaussian_dropout, functional.alpha_dropout])
def test_every_nth_element_along_any_dimension(verb):
    x = torch.randn(7, 9, 11)
    whole = verb(x, 0.4, training=True, key=Key(2, 3))
    place = {"global_shape": x.shape, "start": (1, 0, 3), "step": (2, 4, 3)}
    for dtype in (torch.float32, torch.bfloat16):
        part = x[1::2, 0::4, 3::3].to(dtype)
        got = verb(part, 0.4, training=True, key=Key(2, 3), **place)
        assert torch.equal(got, verb(x.to(dtype), 0.4, training=True, key=Key(2, 3))[1::2, 0::4, 3::3])
    assert whole.shape == x.shape


def test_steps_that_do_not_fit():
    assert positions((3,), None, (7,), (0,), (3,)) == (0, (3,))
    for shape, place, words in [
        (
            (3,),
            ((7,), (1,), (3,)),
            r"x of shape \(3,\) from \(1,\) by \(3,\) reaches outside global_shape \(7,\)",
        ),
        ((3,), ((7,), None, (0,)), r"step must be positive, got \(0,\)"),
        ((3,), ((7,), None, (1, 1)), r"and step \(1, 1\) need one entry"),
        ((3,), (None, None, (1,)), r"step=\(1,\) needs global_shape"),
    ]:
        with pytest.raises(ValueError, match=words):
            positions(shape, None, *place)
    with pytest.raises(ValueError, match="needs samples whole"):
        functional.drop_block2d(MAPS, 0.3, 2, True, key=Key(1), global_shape=(6, 8, 8, 8))


def test_an_empty_tensor_with_a_probability_for_each_row():
    assert functional.dropout(torch.ones(0, 5), torch.ones(0, 1) / 2, True, key=Key(1)).shape == (0, 5)


def test_parts_of_a_mesh_are_torchs():
    """Every rank of meshes of one to three axes, sizes that divide and sizes that do not."""
    for shape in ((9, 14), (3, 1), (8, 8), (0, 5), (1, 17)):
        for mesh in ((2,), (4,), (5,), (2, 2), (3, 4), (2, 3, 2)):
            for first in (Shard(0), Shard(1), Replicate()):
                for rest in (Shard(0), Shard(1), Replicate()):
                    placements = [first, *[rest] * (len(mesh) - 1)]
                    for coordinate in (
                        torch.cartesian_prod(*map(torch.arange, mesh)).reshape(-1, len(mesh)).tolist()
                    ):
                        sizes, begin = extent(shape, mesh, coordinate, placements)
                        want = _compute_local_shape_and_global_offset(shape, mesh, coordinate, placements)
                        assert sizes == want[0]
                        # Where a part is empty torch gives the end of the whole, and we of what was divided.
                        assert 0 in sizes or begin == want[1]


@pytest.mark.full  # a process for 0.6 s of an import, on which no value depends
def test_dtensor_is_not_imported_until_there_is_one():
    """It takes 0.6 s."""
    code = (
        "import sys, torch, thinned.torch; torch.manual_seed(0); "
        "thinned.torch.functional.gaussian_dropout(torch.ones(3), 0.5, True); "
        "print('torch.distributed.tensor' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
