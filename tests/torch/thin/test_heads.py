"""Heads: which attention is thin, whose heads stay, and what is said where heads may be mixed."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_families import Causal, Separate, close, made, step
from torch.nn import Linear
from torch.nn import functional as F

import thinned
from thinned.torch import convert, keyed, masked, nn, set_step, thin, unconvert
from thinned.torch._thin._few_heads import HeadsError

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")


class Model(torch.nn.Module):
    """Attention of four heads, with `way` between the split of heads and the site."""

    def __init__(self, way, p=0.5):
        super().__init__()
        self.qkv, self.out, self.mix = Linear(8, 24), Linear(8, 8), Linear(4, 4)
        self.heads, self.way, self.norm = nn.DropHead(p), way, torch.nn.LayerNorm(8)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(self.way(self, q, k, v).transpose(1, 2).reshape(batch, tokens, width))


def attend(q, k, v, **options):
    return F.scaled_dot_product_attention(q, k, v, **options)


def talking(m, q, k, v):
    scores = F.linear((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1), m.mix.weight).permute(0, 3, 1, 2)
    return m.heads(scores.softmax(-1) @ v)


STAY = {
    "talking heads": (talking, "serve other heads too"),
    "a softmax of heads": (
        lambda m, q, k, v: m.heads((q @ k.mT).softmax(1) @ v),
        "serve other heads too",
    ),
    "the mean of heads": (lambda m, q, k, v: m.heads(v - v.mean(1, keepdim=True)), "serve other heads too"),
    "one head": (lambda m, q, k, v: m.heads(attend(q, k, v) + v[:, :1]), "some of the heads"),
    "rolled heads": (lambda m, q, k, v: m.heads(attend(q, k, v.roll(1, 1))), "serve other heads too"),
    "dropped probabilities": (
        lambda m, q, k, v: m.heads(m.drop((q @ k.mT).softmax(-1)) @ v),
        "drops single elements",
    ),
    "dropped by torch": (
        lambda m, q, k, v: m.heads(attend(q, k, v, dropout_p=0.1)),
        "dropout of the single probabilities of all heads",
    ),
}


@pytest.mark.parametrize("name", STAY)
def test_where_heads_may_be_mixed_all_are_computed_and_the_report_says_why(name):
    way, reason = STAY[name]
    model = Model(way).double()
    report = thin(model)
    assert reason in f"{report.thinned.get('heads')} {report.left}"
    keyed(model, 1, check=None)
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    if "dropped" not in name:
        one, other = step(model, x), step(model, x, masks=True)
        assert close({n: g for n, g in one.items() if g is not None}, other)


def test_values_that_somebody_else_reads_are_computed():
    class Caching(Causal):
        def forward(self, x):
            q, k, v = self.qkv(x).unflatten(-1, (3, 4, 3)).permute(2, 0, 3, 1, 4).unbind(0)
            y = self.heads(F.scaled_dot_product_attention(q, k, v))
            return self.out(y.transpose(1, 2).flatten(2)), v

    model = Caching(0.5)
    assert "reads what its heads are computed from" in thin(model).thinned["heads"]
    y, v = model(torch.ones(2, 5, 12))
    assert y.shape == (2, 5, 12)
    assert v.ne(0).all()


ALIKE = {
    "scales of heads": lambda m, q, k, v: m.heads(
        attend(q * torch.arange(1.0, 5.0).to(q).view(4, 1, 1), k, v)
    ),
    "distances by head": lambda m, q, k, v: m.heads(
        attend(q, k, v, attn_mask=torch.ones(4, 5, 5).cumsum(0).to(q))
    ),
    "other types": lambda m, q, k, v: m.heads(attend(q.type_as(v), k.to(v), v.to(torch.float64))),
    "bounds by head": lambda m, q, k, v: m.heads(
        attend(q.clamp(max=torch.arange(4.0).to(q).view(4, 1, 1)), k, v)
    ),
    "in place": lambda m, q, k, v: m.heads(
        (q @ k.mT).masked_fill_(torch.ones(5, 5).triu(1) > 0, -9.0).softmax(-1) @ v
    ),
    "where": lambda m, q, k, v: m.heads(torch.where(q > 0, q, -q) - 2 * k / 3 + v**2),
    "gates": lambda m, q, k, v: m.heads(attend(q, k, v) * torch.sigmoid(q)),
    "stacked halves": lambda m, q, k, v: m.heads(attend(torch.stack((q[..., 1], q[..., 0]), -1), k, v)),
    "a flat batch": lambda m, q, k, v: m.heads(
        torch.bmm((q.flatten(0, 1) @ k.flatten(0, 1).mT).softmax(-1), v.flatten(0, 1)).unflatten(0, (-1, 4))
    ),
}


@pytest.mark.parametrize("way", ALIKE.values(), ids=ALIKE)
def test_ways_that_keep_heads_apart_are_computed_for_kept_ones(way):
    torch.manual_seed(1)
    model = Model(way).double()
    assert "Linear(8, 24) before" in thin(model).thinned["heads"]
    keyed(model, 3)
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    one, other = step(model, x), step(model, x, masks=True)
    assert close({n: g for n, g in one.items() if g is not None}, other)


BEHIND = {
    "a norm": (lambda m, q, k, v: m.norm(m.heads(attend(q, k, v)).transpose(1, 2).flatten(2)), "LayerNorm"),
    "a residual": (lambda m, q, k, v: m.heads(v) * 2 + 1, "mul"),
}


@pytest.mark.parametrize(("way", "reason"), BEHIND.values(), ids=BEHIND)
def test_what_does_not_read_heads_one_by_one_leaves_the_site_masked(way, reason):
    report = thin(Model(way))
    assert not report.thinned
    assert reason in report.left["heads"]


def test_grouped_queries_are_attended_in_full():
    class Grouped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.out = Linear(8, 8), Linear(8, 4), Linear(8, 4), Linear(8, 8)
            self.heads = nn.DropHead(0.5)

        def forward(self, x):
            q = self.q(x).unflatten(-1, (4, 2)).transpose(1, 2)
            k, v = (m(x).unflatten(-1, (2, 2)).transpose(1, 2) for m in (self.k, self.v))
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            return self.out(self.heads(y).transpose(1, 2).flatten(-2))

    model = Grouped().double()
    report = thin(model)
    assert "serve other heads too" in report.thinned["heads"]
    keyed(model, 1)
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    assert close(step(model, x), step(model, x, masks=True))


def test_a_way_that_was_not_there_is_an_error_that_says_what_to_do():
    model = Model(lambda m, q, k, v: m.heads(attend(q, k, v)))
    assert "Linear(8, 24) before" in thin(model).thinned["heads"]
    keyed(model, 1)
    model.way = lambda m, q, k, v: m.heads(attend(q, k, v.roll(1, 1)))
    with pytest.raises(HeadsError, match=r"may mix heads: .* unthin\(model\)"):
        model(torch.ones(4, 5, 8))
    model.way = lambda m, q, k, v: m.heads(attend(m.drop(q), k, v))
    with pytest.raises(HeadsError, match=r"p=0\.1"):
        model(torch.ones(4, 5, 8))


def test_dropped_heads_are_not_attended():
    """A NaN in the rows of a dropped head reaches nothing, and its gradient is 0."""
    model, x = made("heads and projections", 0.5)
    expected = step(model, x)
    kept = thinned.keep_mask(4, 0.5, key=thinned.Key(1).fold("attend").fold(0).fold("heads"))
    assert 0 < kept.sum() < 4
    gone = [
        part * 12 + head * 3 + one
        for part in range(3)
        for head in range(4)
        if not kept[head]
        for one in range(3)
    ]
    with torch.no_grad():
        model.attend.in_proj_weight[gone] = torch.nan
    got = step(model, x)
    assert close(got, expected)
    assert not got["attend.in_proj_weight"][gone].any()


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("batch_first", [True, False])
def test_masks_of_attention(rank, batch_first):
    torch.manual_seed(1)
    model = torch.nn.Module()
    model.attend = attend = nn.MultiheadAttention(8, 4, head_p=0.5, batch_first=batch_first).double()
    thin(model)
    keyed(model, 1)
    x = torch.randn((3, 5, 8)[3 - rank :], dtype=torch.float64)
    batch, length = (x.shape[1], x.shape[0]) if rank == 3 and not batch_first else (len(x), x.shape[-2])
    batch = batch if rank == 3 else 1
    padding = torch.zeros((batch, length)[3 - rank :], dtype=torch.bool)
    padding[..., -1] = True
    mask = torch.randn(batch * 4, length, length, dtype=torch.float64)
    for options in ({}, {"attn_mask": mask}, {"key_padding_mask": padding, "average_attn_weights": False}):
        output, weights = attend(x, x, x, **options)
        with masked():
            expected = attend(x, x, x, **options)
        assert torch.allclose(output, expected[0])
        assert torch.allclose(weights, expected[1])


def test_heads_of_attention_are_dropped_for_each_sample_where_nothing_is_thin():
    attend = keyed(nn.MultiheadAttention(8, 4, head_p=0.5, batch_first=True), 3)
    x = torch.randn(6, 5, 8)
    set_step(attend, 2)
    _, weights = attend(x, x, x, average_attn_weights=False)
    kept = (weights != 0).any(-1).any(-1)
    expected = thinned.keep_mask((6, 4), 0.5, key=thinned.Key(3).fold("").fold(2).fold("heads"))
    assert torch.equal(kept, torch.tensor(expected))
    plain = copy.deepcopy(attend)
    plain.head_p = 0.0
    assert torch.equal(attend.eval()(x, x, x)[0], plain.eval()(x, x, x)[0])


def test_head_p_has_no_counterpart_in_torch():
    model = torch.nn.Sequential(nn.MultiheadAttention(8, 2, head_p=0.5))
    assert "has no head_p=0.5" in unconvert(model).left["0"]
    with pytest.raises(ValueError, match=r"head_p must be in \[0, 1\], got 2"):
        nn.MultiheadAttention(8, 2, head_p=2)
    assert convert(torch.nn.Sequential(torch.nn.MultiheadAttention(8, 2))).model[0].head_p == 0.0


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(2, 6),
    width=st.integers(1, 4),
    tokens=st.integers(1, 5),
    batch=st.integers(1, 5),
    groups=st.integers(1, 3),
    p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
def test_any_shape(heads, width, tokens, batch, groups, p):
    class Any(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = Linear(3, 3 * heads * width), Linear(heads * width, 2)
            self.heads = nn.DropHead(p)

        def forward(self, x):
            q, k, v = self.qkv(x).unflatten(-1, (heads, 3, width)).permute(3, 0, 2, 1, 4).unbind(0)
            y = self.heads(F.scaled_dot_product_attention(q, k, v))
            return self.out(y.transpose(1, 2).flatten(-2))

    model = Any().double()
    assert "Linear(3, " in thin(model, groups).thinned["heads"]
    keyed(model, heads + 7 * batch)
    x = torch.randn(batch, tokens, 3, dtype=torch.float64)
    assert close(step(model, x), step(model, x, masks=True))


def test_a_batch_without_rows_and_a_single_head():
    for kind in (Causal, Separate):
        model = kind(0.5).double()
        thin(model)
        keyed(model, 1)
        x = torch.zeros(0, 5, 12, dtype=torch.float64)
        assert model(x).shape == x.shape
    single = Model(lambda m, q, k, v: m.heads(q.flatten(1, 2).unsqueeze(1)).unflatten(2, (4, 5)).squeeze(1))
    assert "a single head" in thin(single).left["heads"]
