"""Families beside dropout in plain NumPy, from the papers' equations and the contract's numbers.

What the front ends have in common is tested against these.
"""

import numpy as np

from thinned import contract


def words(shape, key):
    """U of a mask's positions, as float64, which holds them exactly."""
    positions = np.arange(np.prod(shape, dtype=int), dtype=np.uint64).reshape(shape)
    return contract._number(key, positions, contract.PURPOSE_HIGH, contract.PURPOSE_LOW).astype(np.float64)


def kept(shape, p, key):
    return words(shape, key) >= contract.threshold(p)


def concrete(x, p, key, t=0.1):
    """Equation 5 of Gal et al., with 1 − u in place of u."""
    u = (words(x.shape, key) + 0.5) / 2**32
    drop = 1 / (1 + np.exp(-(np.log(p) - np.log(1 - p) + np.log(1 - u) - np.log(u)) / t))
    return x * (1 - drop) / (1 - p)


def variational(x, p, key):
    positions = np.arange(x.size, dtype=np.uint64).reshape(x.shape)
    return x * (1 + np.sqrt(p / (1 - p)) * contract.normal(key, positions).astype(np.float64))


def word_dropout(tokens, p, unknown, key, protected=()):
    return np.where(kept(tokens.shape, p, key) | np.isin(tokens, protected), tokens, unknown)


def drop_key(scores, p, key):
    seen = kept(scores.shape, p, key)
    weights = np.where(seen, np.exp(scores), 0.0)
    total = weights.sum(-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def drop_edge(edges, p, nodes, key, undirected=False):
    mask = kept((nodes, nodes), p, key)
    ends = np.sort(edges, axis=0) if undirected else edges
    return mask[ends[0], ends[1]]


def rows(x, p, key, ids, shared):
    """Dropout of the rows of a whole, of which x has those with these numbers."""
    whole = (int(max(ids)) + 1, *((1,) * (x.ndim - 1) if shared else x.shape[1:]))
    scale = np.float32(2**32 / (2**32 - contract.threshold(p))) if p < 1 else np.float32(0)
    return np.where(kept(whole, p, key)[ids], x * scale, np.float32(0))


def spans(x, width, count, dim, key):
    out = x.copy()
    drawn = np.floor(words((x.shape[0], count, 2), key) / 2**8) / 2**24
    size = x.shape[dim]
    for n in range(x.shape[0]):
        for k in range(count):
            wide = int(drawn[n, k, 0] * (width + 1))
            first = int(drawn[n, k, 1] * (size - wide + 1))
            np.moveaxis(out, dim, 1)[n, first : first + wide] = 0
    return out


def cutout(x, height, width, p, key):
    """Of (N, H, W, C)."""
    out = x.copy()
    word = words((x.shape[0], 3), key)
    drawn = np.floor(word / 2**8) / 2**24
    for n in range(x.shape[0]):
        if word[n, 2] < contract.threshold(p):
            top, left = (
                int(drawn[n, axis] * x.shape[1 + axis]) - side // 2
                for axis, side in enumerate((height, width))
            )
            out[n, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 0
    return out


def patches(x, p, prefix, key):
    """The tokens of the largest numbers, in order, behind a prefix."""
    tokens = x.shape[1] - prefix
    count = max(1, int((1 - p) * tokens))
    word = words((x.shape[0], tokens), key)
    chosen = np.sort(np.argsort(-word, axis=1, kind="stable")[:, :count], axis=1) + prefix
    return np.stack([np.concatenate([row[:prefix], row[c]]) for row, c in zip(x, chosen, strict=True)])
