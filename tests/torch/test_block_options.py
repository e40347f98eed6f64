"""DropBlock: drawn keys, edge cases, and the options by timm's names."""

import pytest
import torch
from torch_plain_blocks import VERBS, plain

from thinned import Key
from thinned.torch import functional, keyed, nn

LAYERS = {1: nn.DropBlock1d, 2: nn.DropBlock2d, 3: nn.DropBlock3d}


def test_blocks_larger_than_the_map_are_clamped_side_by_side():
    x = torch.randn(3, 2, 2, 9)
    got = functional.drop_block2d(x, 0.4, 4, True, key=Key(1))
    assert torch.equal(got, plain(x, 0.4, (2, 4), Key(1)))


def test_the_wrong_rank_names_the_layer_that_fits():
    with pytest.raises(
        ValueError, match=r"got shape \(2, 3, 4\): DropBlock1d takes \(N, C, L\); pass input.unsq"
    ):
        functional.drop_block2d(torch.ones(2, 3, 4), 0.5, 2, False)
    with pytest.raises(ValueError, match=r"DropBlock3d takes \(N, C, D, H, W\)$"):
        functional.drop_block2d(torch.ones(2, 3, 4, 4, 4), 0.5, 2, True)
    with pytest.raises(ValueError, match="maps of one to three dimensions"):
        nn.DropBlock1d(0.5, 2)(torch.ones(3))


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


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_block_has_a_size_that_fits_its_map(rank):
    layer = LAYERS[rank]
    with pytest.raises(ValueError, match="block_size must be positive, got 0"):
        layer(0.5, 0)
    with pytest.raises(TypeError, match="block_size must be an integer"):
        layer(0.5, 2.0)
    with pytest.raises(ValueError, match=f"block_size must be an integer or {rank} of them"):
        layer(0.5, (2,) * (rank + 1))
    x = torch.ones(2, 3, *(4,) * rank)
    assert VERBS[rank](x[..., :0], 0.5, 2, True).shape == x[..., :0].shape
    with pytest.raises(ValueError, match="one p per sample is"):
        VERBS[rank](x, torch.rand(1, 1, *(4,) * rank), 2, True)
