"""DropBlock: the rate that is asked for, in every sample; blocks where they should be; one mask both ways."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch.library import opcheck

import thinned
from thinned import Key
from thinned.torch import functional, keyed, nn, schedules, set_step
from thinned.torch._block import seed_rate

VERBS = {1: functional.drop_block1d, 2: functional.drop_block2d, 3: functional.drop_block3d}
LAYERS = {1: nn.DropBlock1d, 2: nn.DropBlock2d, 3: nn.DropBlock3d}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

CASES = [
    ((10,), (3,)),
    ((9,), (4,)),
    ((6, 7), (2, 2)),
    ((5, 8), (3, 3)),
    ((5, 5), (5, 5)),
    ((4, 9), (1, 4)),
    ((4, 5, 3), (2, 3, 2)),
]


def covering(sizes, block):
    """For each element of a map, the first elements of the blocks that cover it, one by one."""
    firsts = list(itertools.product(*(range(s - b + 1) for s, b in zip(sizes, block, strict=True))))
    for place in itertools.product(*(range(s) for s in sizes)):
        yield (
            place,
            [
                first
                for first in firsts
                if all(f <= i < f + b for f, i, b in zip(first, place, block, strict=True))
            ],
        )


def plain_dropped(shape, p, block, key):
    """True where dropped: a loop over samples, channels, places and their blocks."""
    sizes = shape[2:]
    firsts = [s - b + 1 for s, b in zip(sizes, block, strict=True)]
    rate = seed_rate(thinned.threshold(p) / 2**32, sizes, block)
    kept = thinned.keep_mask((*shape[:2], *firsts), rate, key=key)
    dropped = np.zeros(shape, dtype=bool)
    for place, over in covering(sizes, block):
        for first in over:
            dropped[(..., *place)] |= ~kept[(..., *first)]
    return torch.from_numpy(dropped)


def plain(x, p, block, key):
    dropped = plain_dropped(tuple(x.shape), p, block, key)
    out = torch.zeros_like(x)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    for i in range(x.shape[0]):
        kept = int((~dropped[i]).sum())
        if kept:
            scale = torch.tensor(dropped[i].numel() / kept, dtype=torch.float64).to(wide)
            out[i] = torch.where(dropped[i], 0.0, (x[i].to(wide) * scale)).to(x.dtype)
    return out


@pytest.mark.parametrize(("sizes", "block"), CASES)
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_the_expected_share_is_p(sizes, block, p):
    """Exactly, by listing the blocks over every element: even sides, borders and overlaps included."""
    gamma = seed_rate(p, sizes, block)
    dropped = [1 - (1 - gamma) ** len(over) for _, over in covering(sizes, block)]
    assert math.isclose(math.fsum(dropped) / len(dropped), p, rel_tol=1e-9, abs_tol=1e-13)


def test_the_papers_rate_is_another():
    """γ = p / block² · map / places, which ignores overlaps, drops 0.21 where it should drop 0.25."""
    p, sizes, block = 0.25, (14, 14), (7, 7)
    gamma = p / 49 * 14**2 / 8**2
    dropped = [1 - (1 - gamma) ** len(over) for _, over in covering(sizes, block)]
    assert round(math.fsum(dropped) / len(dropped), 4) == 0.2095


@pytest.mark.parametrize("block", [3, 4])
def test_the_share_of_every_sample_is_p(block):
    """Over many channels, which are independent: |z| < 5 in each sample."""
    n, c, p = 6, 3000, 0.2
    y = functional.drop_block2d(torch.ones(n, c, 8, 9), p, block, True, key=Key(11))
    shares = (y == 0).double().mean((2, 3))
    for sample in shares:
        z = (sample.mean() - p) / (sample.std() / c**0.5)
        assert abs(z) < 5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("sizes", "block"), CASES)
def test_outputs_equal_the_plain_reference(sizes, block, dtype):
    shape = (3, 4, *sizes)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = VERBS[len(sizes)](x, 0.3, block, True, key=Key(5, 1))
    assert torch.equal(got, plain(x, 0.3, block, Key(5, 1)))
    assert (got == 0).any()
    assert got.dtype == dtype


def test_even_blocks_fill_the_map():
    """Torchvision pads even blocks by one too many on a side: here each is whole and within the map."""
    x = torch.ones(1, 4000, 4, 4)
    y = functional.drop_block2d(x, 0.05, 2, True, key=Key(3))
    dropped = (y == 0)[0]
    assert {int(n) for n in dropped.sum((1, 2)).unique()} >= {0, 4}
    assert not (dropped.sum((1, 2)) < 4).logical_and(dropped.any(2).any(1)).any()
    corners = dropped.double().mean(0)[[0, 0, -1, -1], [0, -1, 0, -1]]
    gamma = seed_rate(0.05, (4, 4), (2, 2))
    assert bool(((corners - gamma).abs() < 5 * (gamma / 4000) ** 0.5).all())


def test_a_sample_does_not_depend_on_the_batch():
    x = torch.randn(7, 4, 6, 6)
    alone = functional.drop_block2d(x[:2], 0.3, 3, True, key=Key(1))
    assert torch.equal(functional.drop_block2d(x, 0.3, 3, True, key=Key(1))[:2], alone)


def test_the_mean_of_a_sample_is_kept():
    y = functional.drop_block2d(torch.ones(5, 3, 8, 8, dtype=torch.float64), 0.4, 3, True, key=Key(2))
    assert torch.allclose(y.mean((1, 2, 3)), torch.ones(5, dtype=torch.float64), rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [1.0, math.nan, math.inf])
def test_forward_and_backward_have_one_mask(bad, dtype):
    x = torch.full((2, 3, 6, 6), bad, dtype=dtype, requires_grad=True)
    y = functional.drop_block2d(x, 0.4, 2, True, key=Key(4))
    y.backward(torch.full_like(y, bad))
    dropped = plain_dropped((2, 3, 6, 6), 0.4, (2, 2), Key(4))
    for tensor in (y.detach(), x.grad):
        assert not tensor[dropped].double().view(torch.int64).any()
        assert bool((tensor != 0).eq(~dropped).all())
    assert torch.equal(torch.nan_to_num(y.detach()), torch.nan_to_num(x.grad))


def test_nothing_of_the_inputs_size_is_saved():
    saved = []
    x = torch.ones(4, 8, 10, 10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        functional.drop_block2d(x, 0.2, 3, True)
    assert sum(saved) == 24


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
def test_gradcheck():
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)

    def f(v):
        return functional.drop_block2d(v, 0.4, 2, True, key=Key(3))

    assert torch.autograd.gradcheck(f, x)
    assert torch.autograd.gradgradcheck(f, x)
    _, tangent = torch.func.jvp(f, (x.detach(),), (torch.ones_like(x),))
    assert torch.equal(tangent, f(torch.ones_like(x)).detach())


BITS = torch.tensor([3, -4])


@pytest.mark.parametrize(
    ("x", "p"),
    [
        (torch.randn(2, 3, 5, 6, requires_grad=True), torch.tensor(0.3)),
        (torch.randn(2, 3, 5, 6).to(memory_format=torch.channels_last), torch.tensor(0.3)),
        (torch.randn(6, 5, 3, 2, dtype=torch.bfloat16).permute(3, 2, 1, 0), torch.tensor(0.3)),
        (torch.randn(2, 3, 5, 6)[..., ::2], torch.tensor(0.3)),
        (torch.randn(1, 3, 1, 6).expand(2, 3, 5, 6), torch.tensor(0.3)),
        (torch.randn(0, 3, 5, 6), torch.tensor(0.3)),
        (torch.randn(2, 3, 5, 6, requires_grad=True), torch.rand(2, 1, 1, 1)),
    ],
    ids=["grad", "channels_last", "permuted", "sliced", "expanded", "empty", "p of samples"],
)
def test_opcheck(x, p):
    opcheck(torch.ops.thinned.drop_block.default, (x, BITS, p.double(), [2, 3]))


def test_layouts_have_the_mask_of_the_logical_index():
    x = torch.randn(2, 4, 6, 6)
    expected = functional.drop_block2d(x, 0.3, 2, True, key=Key(1))
    other = functional.drop_block2d(x.to(memory_format=torch.channels_last), 0.3, 2, True, key=Key(1))
    assert torch.equal(other, expected)
    assert other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap(randomness):
    x = torch.randn(3, 2, 4, 6, 6)

    def f(v):
        return functional.drop_block2d(v, 0.3, 2, True, key=Key(1))

    got = torch.vmap(f, randomness=randomness)(x)
    keys = [Key(1).fold(i) if randomness == "different" else Key(1) for i in range(3)]
    for one, row, key in zip(got, x, keys, strict=True):
        assert torch.equal(one, functional.drop_block2d(row, 0.3, 2, True, key=key))
    grads = torch.vmap(torch.func.grad(lambda v: f(v).sum()), randomness=randomness)(x)
    assert torch.equal(grads == 0, got == 0)


def test_p_of_each_sample():
    x = torch.randn(3, 4, 6, 6)
    p = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    got = functional.drop_block2d(x, p.reshape(3, 1, 1, 1), 2, True, key=Key(1))
    for i in range(3):
        expected = plain(x, float(p[i]), (2, 2), Key(1))[i]
        assert torch.equal(got[i], expected)
    with pytest.raises(ValueError, match="one p per sample is"):
        functional.drop_block2d(x, torch.rand(1, 1, 6, 1), 2, True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_equals_eager_over_steps(backend):
    """One graph for all steps of a schedule."""
    model = keyed(torch.nn.Sequential(nn.DropBlock2d(schedules.Linear(0.0, 0.5, 4), 3)), 7)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    graphs = []
    for step in range(5):
        set_step(model, step)
        x = torch.randn(2, 3, 7, 7, requires_grad=True)
        y = compiled(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(y, model(x))
        assert torch.equal(gradient == 0, y == 0)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[-1]


def test_keyed_and_steps():
    model = torch.nn.Sequential(nn.DropBlock1d(0.3, 3), nn.DropBlock3d(0.2, (1, 2, 2), inplace=True))
    keyed(model, 9)
    set_step(model, 4)
    x = torch.randn(2, 3, 20)
    expected = plain(x, 0.3, (3,), Key(9).fold("0").fold(4))
    assert torch.equal(model[0](x), expected)
    assert torch.equal(copy.deepcopy(model)[0](x), expected)
    assert not torch.equal(model[0](x, call=1), expected)
    z = torch.randn(2, 3, 3, 4, 4)
    expected = plain(z, 0.2, (1, 2, 2), Key(9).fold("1").fold(4))
    assert model[1](z) is z
    assert torch.equal(z, expected)
    assert model.eval()[1](z) is z


def test_drawn_keys_come_from_torchs_generator():
    x = torch.ones(2, 3, 8, 8)
    layer = nn.DropBlock2d(0.3, 3)
    torch.manual_seed(1)
    a, b = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), a)
    assert not torch.equal(a, b)


def test_blocks_larger_than_the_map_are_clamped_side_by_side():
    x = torch.randn(3, 2, 2, 9)
    got = functional.drop_block2d(x, 0.4, 4, True, key=Key(1))
    assert torch.equal(got, plain(x, 0.4, (2, 4), Key(1)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_edge_cases(rank):
    verb, layer = VERBS[rank], LAYERS[rank]
    x = torch.ones(2, 3, *(4,) * rank)
    assert verb(x, 0.0, 2, True) is x
    assert verb(x, 0.5, 2, False) is x
    nan = torch.full_like(x, math.nan).requires_grad_()
    y = verb(nan, 1.0, 2, True)
    y.backward(nan.detach())
    assert not y.detach().view(torch.int32).any()
    assert not nan.grad.view(torch.int32).any()
    for p in (-0.1, 1.5, math.nan):
        for training in (True, False):
            with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
                verb(x, p, 2, training)
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
            layer(p, 2)
    with pytest.raises(TypeError, match="p must be a real number"):
        layer(True, 2)
    with pytest.raises(TypeError, match=r"input must be float32.*got torch.int64"):
        verb(x.long(), 0.5, 2, False)
    with pytest.raises(TypeError, match=r"pass training=self\.training"):
        verb(x, 0.5, 2)
    with pytest.raises(TypeError, match="pass key or generator, not both"):
        verb(x, 0.5, 2, True, key=Key(0), generator=torch.Generator())
    with pytest.raises(ValueError, match="block_size must be positive, got 0"):
        layer(0.5, 0)
    with pytest.raises(TypeError, match="block_size must be an integer"):
        layer(0.5, 2.0)
    with pytest.raises(ValueError, match=f"block_size must be an integer or {rank} of them"):
        layer(0.5, (2,) * (rank + 1))
    assert verb(x[:0], 0.5, 2, True).shape == x[:0].shape
    assert verb(x[..., :0], 0.5, 2, True).shape == x[..., :0].shape


def test_the_wrong_rank_names_the_layer_that_fits():
    with pytest.raises(
        ValueError, match=r"got shape \(2, 3, 4\): DropBlock1d takes \(N, C, L\); pass input.unsq"
    ):
        functional.drop_block2d(torch.ones(2, 3, 4), 0.5, 2, False)
    with pytest.raises(ValueError, match=r"DropBlock3d takes \(N, C, D, H, W\)$"):
        functional.drop_block2d(torch.ones(2, 3, 4, 4, 4), 0.5, 2, True)
    with pytest.raises(ValueError, match="maps of one to three dimensions"):
        nn.DropBlock1d(0.5, 2)(torch.ones(3))


def test_repr():
    assert repr(nn.DropBlock2d(0.1, 7)) == "DropBlock2d(p=0.1, block_size=7, inplace=False)"


MAPS = torch.randn(3, 4, 9, 9, generator=torch.Generator().manual_seed(1)) + 5


def test_what_is_kept_may_stay_as_it_is():
    scaled = functional.drop_block2d(MAPS, 0.3, 3, True, key=Key(1))
    plain = functional.drop_block2d(MAPS, 0.3, 3, True, key=Key(1), scale_by_keep=False)
    assert torch.equal(plain, torch.where(scaled == 0, 0.0, MAPS))


@pytest.mark.parametrize("inplace", [False, True])
def test_channels_may_have_one_mask(inplace):
    x = MAPS.clone()
    y = functional.drop_block2d(x, 0.3, 3, True, inplace, key=Key(1), couple_channels=True)
    one = functional.drop_block2d(MAPS[:, :1], 0.3, 3, True, key=Key(1))
    assert torch.equal(y == 0, (one == 0).expand_as(y))
    assert torch.equal(y[:, :1], one)
    assert (y is x) == inplace
    with pytest.raises(ValueError, match="a rate for each channel, and couple_channels=True"):
        functional.drop_block2d(x, torch.full((1, 4, 1, 1), 0.3), 3, True, couple_channels=True)


@pytest.mark.parametrize("coupled", [False, True])
def test_noise_stands_where_blocks_were_dropped(coupled):
    x = MAPS.clone().requires_grad_()
    plain = functional.drop_block2d(x, 0.4, 3, True, key=Key(1), scale_by_keep=False, couple_channels=coupled)
    y = functional.drop_block2d(x, 0.4, 3, True, key=Key(1), couple_channels=coupled, with_noise=True)
    dropped = plain == 0
    assert torch.equal(y[~dropped], x[~dropped])
    noise = y[dropped].detach()
    assert noise.all()
    assert abs(float(noise.mean())) < 0.4  # 4 deviations of 100 numbers' mean
    assert 0.7 < float(noise.std()) < 1.3
    y.sum().backward()
    assert torch.equal(x.grad, (~dropped).float())
    assert functional.drop_block2d(MAPS, 1.0, 3, True, key=Key(1), with_noise=True).all()


def test_noise_of_a_part_is_that_of_the_whole():
    def drop(x, **place):
        return functional.drop_block2d(x, 0.4, 3, True, key=Key(1), with_noise=True, **place)

    part = drop(MAPS[1:], global_shape=tuple(MAPS.shape), start=(1, 0, 0, 0))
    assert torch.equal(part, drop(MAPS)[1:])


def test_a_layer_by_timms_names_has_timms_defaults():
    layer = nn.DropBlock2d(drop_prob=0.3, batchwise=True, fast=False)
    assert (layer.drop_prob, layer.p, layer.block_size, layer.couple_channels) == (0.3, 0.3, 7, True)
    y = keyed(layer, 1)(MAPS)
    assert torch.equal(y == 0, (y[:, :1] == 0).expand_as(y))
    assert nn.DropBlock2d(0.3, 5).couple_channels is False
    assert repr(nn.DropBlock2d(0.3, 5)) == "DropBlock2d(p=0.3, block_size=5, inplace=False)"
    assert "couple_channels=True, scale_by_keep=False" in repr(
        nn.DropBlock2d(drop_prob=0.3, scale_by_keep=False)
    )
    twice = keyed(nn.DropBlock2d(0.2, 3, gamma_scale=2.0), 1)
    assert torch.equal(twice(MAPS), keyed(nn.DropBlock2d(0.4, 3), 1)(MAPS))
    for options in ({"with_noise": True}, {"scale_by_keep": False}, {"couple_channels": True}):
        a, b = (keyed(nn.DropBlock2d(0.4, 3, **more), 1)(MAPS) for more in (options, {}))
        assert not torch.equal(a, b)
    with pytest.warns(UserWarning, match=r"DropBlock2d\(\) got unexpected keyword argument 'other'"):
        nn.DropBlock2d(drop_prob=0.1, other=True)
    for wrong in ({}, {"p": 0.1, "drop_prob": 0.1}):
        with pytest.raises(TypeError, match="pass p, or drop_prob"):
            nn.DropBlock2d(**wrong)


def test_options_under_vmap_and_in_compiled_code():
    def drop(x):
        return functional.drop_block2d(
            x, 0.3, 3, True, key=Key(1), couple_channels=True, scale_by_keep=False, with_noise=True
        )

    both = torch.stack([MAPS, MAPS + 1])
    assert torch.equal(torch.func.vmap(drop)(both), torch.stack([drop(x) for x in both]))
    torch.compiler.reset()
    assert torch.equal(torch.compile(drop, backend="aot_eager", fullgraph=True)(MAPS), drop(MAPS))
