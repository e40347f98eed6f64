"""Whole words are dropped: one decision a word, wherever it occurs."""

import copy
import math

import numpy as np
import pytest
import torch

import thinned
from thinned import Key
from thinned.torch import functional, keyed, nn, set_step
from thinned.torch.functional import embedding_dropout

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
TEXT = torch.randint(40, (6, 11), generator=torch.Generator().manual_seed(0))


def table(dtype=torch.float32):
    return torch.randn(40, 5, generator=torch.Generator().manual_seed(1)).to(dtype)


def reference(text, weight, p, key):
    """The table dropped by NumPy's mask of (words, 1), then looked up."""
    mask = torch.from_numpy(thinned.keep_mask((len(weight), 1), p, key=key))
    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    value = (weight.to(wide) * torch.tensor(thinned.scale(p), dtype=wide)).to(weight.dtype)
    return torch.where(mask, value, torch.zeros((), dtype=weight.dtype))[text]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_equal_the_reference(dtype):
    for p in (0.1, 0.5):
        got = embedding_dropout(TEXT, table(dtype), p, True, key=Key(7))
        assert got.dtype == dtype
        assert torch.equal(got, reference(TEXT, table(dtype), p, Key(7)))


def test_the_table_is_neither_written_to_nor_hidden():
    embedding = torch.nn.Embedding(40, 5)
    before = embedding.weight.detach().clone()
    layer = nn.EmbeddingDropout(embedding, 0.5)
    layer(TEXT).sum().backward()
    assert torch.equal(embedding.weight, before)
    assert layer.weight is embedding.weight
    assert (layer.num_embeddings, layer.embedding_dim) == (40, 5)
    assert list(layer.state_dict()) == ["embedding.weight"]


def test_gradients_are_of_kept_words_alone():
    weight = table().requires_grad_()
    y = embedding_dropout(TEXT, weight, 0.5, True, key=Key(7))
    y.backward(torch.where(y == 0, math.nan, 1.0))
    mask = torch.from_numpy(thinned.keep_mask((40, 1), 0.5, key=Key(7)))
    counts = torch.bincount(TEXT.flatten(), minlength=40)[:, None]
    assert torch.equal(weight.grad, (2.0 * counts * mask).expand(40, 5))


def test_what_is_dropped_is_zero_were_it_nan():
    y = embedding_dropout(TEXT, torch.full((40, 5), math.nan), 0.5, True, key=Key(7))
    mask = torch.from_numpy(thinned.keep_mask((40,), 0.5, key=Key(7)))
    assert torch.equal(y.isnan()[..., 0], mask[TEXT])
    assert not torch.signbit(y[~y.isnan()]).any()


def test_torchs_options():
    weight = table().requires_grad_()
    for options in ({"padding_idx": 3}, {"scale_grad_by_freq": True}, {"sparse": True}):
        y = embedding_dropout(TEXT, weight, 0.0, True, **options)
        plain = torch.nn.functional.embedding(TEXT, weight, **options)
        assert torch.equal(y, plain)
        ours, theirs = (torch.autograd.grad(each.sum(), weight)[0] for each in (y, plain))
        assert ours.is_sparse == theirs.is_sparse == bool(options.get("sparse"))
        assert torch.equal(ours.to_dense(), theirs.to_dense())
    dropped = embedding_dropout(TEXT, weight, 0.5, True, key=Key(1), padding_idx=3)
    (grad,) = torch.autograd.grad(dropped.sum(), weight)
    assert not grad[3].any()
    short = embedding_dropout(TEXT, table(), 0.5, True, key=Key(1), max_norm=1.0)
    assert (short.norm(dim=-1) <= 2.0 + 1e-5).all()


def test_rates_by_word():
    p = torch.zeros(40, 1)
    p[::2] = 1.0
    y = embedding_dropout(TEXT, torch.ones(40, 5), p, True, key=Key(1))
    assert torch.equal(y[..., 0], (TEXT % 2).float())


def test_the_rate_of_words():
    mask = embedding_dropout(torch.arange(2**18), torch.ones(2**18, 1), 0.3, True, key=Key(5)) == 0
    z = (mask.sum().item() - 0.3 * 2**18) / np.sqrt(2**18 * 0.3 * 0.7)
    assert abs(z) < 5, f"z = {z:.2f}"


def test_the_layer_keyed_copied_and_compiled():
    torch._dynamo.reset()
    layer = keyed(nn.EmbeddingDropout(torch.nn.Embedding(40, 5, padding_idx=0), 0.5), 3)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    seen = []
    for step in range(3):
        set_step(layer, step)
        y = layer(TEXT)
        assert torch.equal(y, reference(TEXT, layer.weight.detach(), 0.5, layer.key.fold(step)))
        assert torch.equal(y, compiled(TEXT))
        assert torch.equal(y, copy.deepcopy(layer)(TEXT))
        seen.append(y)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(layer(TEXT, call=1), seen[-1])
    assert torch.equal(layer.eval()(TEXT), layer.embedding(TEXT))


def test_vmap():
    weight, one_text = table(), TEXT[:1].expand(4, 11)

    def drawn(text):
        return embedding_dropout(text, weight, 0.5, True)

    masks = torch.vmap(drawn, randomness="different")(one_text)
    assert not torch.equal(masks[0], masks[1])
    same = torch.vmap(lambda text: embedding_dropout(text, weight, 0.5, True, key=Key(1)))(TEXT)
    assert torch.equal(same, functional.embedding_dropout(TEXT, weight, 0.5, True, key=Key(1)))


def test_tables_are_of_words_and_features():
    with pytest.raises(TypeError, match=r"got torch\.int64"):
        embedding_dropout(TEXT, table().long(), 0.5, True)
    with pytest.raises(ValueError, match=r"weight must be \(words, features\)"):
        embedding_dropout(TEXT, table()[0], 0.5, True)
    with pytest.raises(TypeError, match=r"embedding must be a torch\.nn\.Embedding"):
        nn.EmbeddingDropout(table(), 0.5)
    assert not embedding_dropout(TEXT, torch.full((40, 5), math.nan), 1.0, True).view(torch.int32).any()
