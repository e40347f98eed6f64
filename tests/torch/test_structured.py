"""Structured dropout and that of graphs: against the papers' equations and the contract's masks."""

import math

import numpy as np
import pytest
import torch

from thinned import Key, keep_mask
from thinned.torch import functional as F
from thinned.torch import keyed, members, nn, r_drop, set_step, twice
from thinned.torch.functional import _graph
from thinned.torch.schedules import Curriculum

KEY = Key(3, 1)


def kept(shape, p):
    return torch.from_numpy(keep_mask(shape, p, key=KEY))


def test_names_say_a_noise_shape():
    x = torch.randn(3, 4, 5, 2)
    for independent, noise in {
        "NC": (None, 1, 1, None),
        "NHW": (None, None, None, 1),
        "C": (1, 1, 1, None),
    }.items():
        expected = F.dropout(x, 0.4, True, key=KEY, noise_shape=noise)
        assert torch.equal(F.spatial_dropout(x, 0.4, "NHWC", independent, True, key=KEY), expected)
    with pytest.raises(ValueError, match='layout "NLD" has 3 letters and input 4 dimensions'):
        F.spatial_dropout(x, 0.4, "NLD", "NL", True)
    with pytest.raises(ValueError, match='independent "NX" is not in layout "NLD"'):
        nn.SpatialDropout(0.4, "NLD", "NX")


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_words_are_replaced_by_the_contracts_mask(p):
    text = torch.arange(1, 61).reshape(3, 20)
    expected = torch.where(kept((3, 20), p) | (text == 7), text, 0)
    assert torch.equal(F.word_dropout(text, p, 0, True, protected=(7,), key=KEY), expected)
    with pytest.raises(TypeError, match="input must hold token numbers"):
        F.word_dropout(torch.ones(3), p, 0, True)


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_dropkey_is_softmax_of_what_is_seen(p):
    scores = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    shown = scores.detach().numpy().copy()
    shown[~kept((2, 6, 5), p).numpy()] = -np.inf
    with np.errstate(invalid="ignore"):
        weights = np.exp(shown - shown.max(-1, keepdims=True))
        expected = np.nan_to_num(weights / weights.sum(-1, keepdims=True))
    got = F.drop_key(scores, p, True, key=KEY)
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-12, atol=0)
    got.square().sum().backward()
    assert scores.grad.isfinite().all()


def test_mixout_is_the_papers_definition():
    w, t, p = torch.randn(40, dtype=torch.float64), torch.randn(40, dtype=torch.float64), 0.25
    m = (~kept(40, p)).double()
    expected = ((1 - m) * w + m * t - p * t) / (1 - p)
    torch.testing.assert_close(F.mixout(w, t, p, True, key=KEY), expected)
    assert torch.equal(F.mixout(w, t, 1.0, True, key=KEY), t)
    assert F.mixout(w, t, 0.0, True, key=KEY) is w


@pytest.mark.parametrize("p", [0.0, 0.5, 0.9, 1.0])
def test_patches_that_stay_are_those_dropped_last(p):
    x = torch.arange(2 * 11.0).reshape(2, 11, 1)
    y = F.patch_dropout(x, p, True, prefix_tokens=1, key=KEY)
    count = max(1, int((1 - p) * 10))
    assert y.shape == (2, 1 + count, 1)
    assert torch.equal(y[:, 0], x[:, 0])
    fewer = [{*row.flatten().tolist()} for row in F.patch_dropout(x, min(1.0, p + 0.1), True, key=KEY)]
    assert all(few <= {*row.flatten().tolist()} for few, row in zip(fewer, y, strict=True))
    assert all((row.diff(dim=0) > 0).all() for row in y)


def test_shakedrop_keeps_by_drop_paths_mask_and_has_another_number_backward():
    x = torch.ones(4000, 2, requires_grad=True)
    y = F.shake_drop(x, 0.4, True, key=KEY)
    y.sum().backward()
    whole = F.drop_path(torch.ones(4000, 2), 0.4, True, key=KEY) != 0
    assert torch.equal(y[whole], torch.ones_like(y[whole]))
    assert torch.equal(x.grad[whole], torch.ones_like(y[whole]))
    alpha, beta = y.detach()[~whole], x.grad[~whole]
    assert -1 <= alpha.min() < 0 < alpha.max() <= 1
    assert 0 <= beta.min() < beta.max() <= 1
    for values, mean, deviation in ((alpha, 0.0, 2 / 12**0.5), (beta, 0.5, 1 / 12**0.5)):
        z = (values.mean() - mean) / deviation * math.sqrt(len(values) / 2)
        assert abs(z) < 4.5
    torch.testing.assert_close(F.shake_drop(x, 0.4, False), 0.6 * x)


def test_shake_shake_mixes_to_one():
    x, y = torch.randn(50, 3, requires_grad=True), torch.randn(50, 3, requires_grad=True)
    out = F.shake_shake(x, y, True, key=KEY)
    gx, gy = torch.autograd.grad(out.sum(), (x, y))
    torch.testing.assert_close(gx + gy, torch.ones(50, 3))
    share = ((out - y) / (x - y)).detach()[:, 0]
    assert not torch.allclose(share, gx[:, 0])
    torch.testing.assert_close(F.shake_shake(x, y, False), (x + y) / 2)


def test_an_edge_has_one_decision_in_any_order_or_batch():
    edges = torch.randint(0, 9, (2, 60))
    whole = kept((9, 9), 0.4)
    assert torch.equal(F.drop_edge(edges, 0.4, True, num_nodes=9, key=KEY), whole[edges[0], edges[1]])
    some = torch.tensor([5, 2, 8])  # of a mini-batch
    local = torch.tensor([[0, 1, 2], [1, 2, 0]])
    batch = F.drop_edge(local, 0.4, True, num_nodes=9, node_ids=some, key=KEY)
    assert torch.equal(batch, whole[some[local[0]], some[local[1]]])
    both = F.drop_edge(torch.cat([edges, edges.flip(0)], 1), 0.4, True, undirected=True, key=KEY)
    assert torch.equal(both[:60], both[60:])
    for p, count in ((0.0, 60), (1.0, 0)):
        assert F.drop_edge(edges, p, True, key=KEY).sum() == count


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_nodes_and_messages_are_dropouts_rows(p):
    x = torch.randn(8, 5)
    order = torch.randperm(8)
    for verb, name, noise in ((F.drop_node, "node_ids", (None, 1)), (F.drop_message, "edge_ids", None)):
        expected = F.dropout(x, p, True, key=KEY, noise_shape=noise)
        assert torch.equal(verb(x, p, True, key=KEY), expected)
        assert torch.equal(verb(x[order], p, True, key=KEY, **{name: order}), expected[order])


def test_rows_without_ids_are_one_call_of_dropout(monkeypatch):
    """By the kernel, with a place as dropout has it; not word by word."""
    monkeypatch.setattr(_graph, "word_at", None)
    x = torch.randn(8, 5)
    for verb, noise in ((F.drop_node, (None, 1)), (F.drop_message, None)):
        part = verb(x[2:6], 0.3, True, key=KEY, global_shape=(8, 5), start=(2, 0))
        assert torch.equal(part, F.dropout(x, 0.3, True, key=KEY, noise_shape=noise)[2:6])
        assert verb(x, 0.0, True) is x


def test_spans_are_of_the_sizes_asked_for():
    x = torch.ones(500, 2, 20)
    y = F.mask_spans(x, 6, 1, -1, True, key=KEY)
    assert torch.equal(y[:, 0], y[:, 1])
    lengths = (y[:, 0] == 0).sum(1)
    assert set(lengths.tolist()) == set(range(7))
    assert all((row != 1).int().diff().abs().sum() <= 2 for row in y[:, 0])
    box = F.cutout(torch.ones(300, 1, 8, 8), 4, 0.5, True, key=KEY)
    area = (box == 0).sum((1, 2, 3))
    assert area.max() == 16
    assert abs(((area > 0).double().mean() - 0.5) * 2 * math.sqrt(300)) < 4.5
    part = F.mask_spans(x[10:20], 6, 1, -1, True, key=KEY, global_shape=(500, 1, 2), start=(10, 0, 0))
    assert torch.equal(part, y[10:20])


def test_twice_has_two_masks_at_one_step_and_the_divergence_is_both_ways():
    model = keyed(torch.nn.Sequential(nn.Dropout(0.5)), 1)
    one, other = twice(model, torch.ones(4, 30))
    assert not torch.equal(one, other)
    again = twice(set_step(model, 0), torch.ones(4, 30))
    assert torch.equal(again[0], one)
    p, q = (torch.softmax(each.double(), -1) for each in (one, other))
    expected = ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)).mean() / 2
    torch.testing.assert_close(r_drop(one.double(), other.double()), expected)


def test_members_have_masks_that_stay():
    layer = nn.FixedDropout(0.4, 3, key=KEY)
    y = members(layer, torch.ones(2, 7))
    for member in range(3):
        mask = torch.from_numpy(keep_mask(7, 0.4, key=KEY.fold(member)))
        assert torch.equal(y[member] != 0, mask.expand(2, 7))
    assert torch.equal(members(layer.eval(), torch.ones(2, 7)), y)
    with pytest.raises(ValueError, match="4 rows are not divided by 3 members"):
        layer(torch.ones(4, 7))
    full = nn.Masksembles(12, 4, 1.0, key=KEY)
    assert full.masks.all()
    apart = nn.Masksembles(60, 4, 3.0, key=KEY).masks
    assert len(set(apart.sum(1).tolist())) == 1
    assert apart.sum() < 4 * 60 / 2


def test_copies_are_parts_of_one_mask():
    layer = nn.MultiSampleDropout(torch.nn.Identity(), 0.5, 4)
    x = torch.randn(3, 6)
    expected = F.dropout(x.expand(4, 3, 6), 0.5, True, key=KEY).mean(0)
    assert torch.equal(layer(x, key=KEY), expected)


def test_a_curriculum_rises_to_p():
    harder = Curriculum(0.5, 0.01)
    for step in (0, 1, 100, 10_000):
        expected = 0.5 * (1 - math.exp(-0.01 * step))
        assert harder(step) == pytest.approx(expected)
        assert harder(torch.tensor(step)).item() == pytest.approx(expected)
