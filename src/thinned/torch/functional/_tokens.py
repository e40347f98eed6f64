"""These functions drop tokens: words of a text or of its table, and patches of a picture."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_tokens, check_training, requires_training
from thinned.contract import Key, check_integer, check_probability
from thinned.torch import _key, _mesh, _native, _onnx, _operands, _rate
from thinned.torch._numbers import drop_threshold, numbers
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch._rate import check_number
from thinned.torch._remat import drawn_in_training
from thinned.torch.functional._dropout import dropout


@overridable
def word_dropout(
    input: Tensor,
    p: float | Tensor,
    replacement: int,
    training: bool = REQUIRED,
    *,
    protected: tuple[int, ...] = (),
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Replace each token by another, the unknown word's as a rule, with probability p.

    `embedding_dropout` drops a word wherever it occurs; here each place decides for itself.

    Args:
        input: token numbers, an integer tensor of any shape.
        p: probability in [0, 1] that a token is replaced, a number or a tensor of no dimension.
        replacement: what it is replaced by.
        training: True replaces, False evaluates to input itself.
        protected: tokens that are never replaced: padding, beginning and end.
        key: of the mask, dropout's of input's shape. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype. No scale is applied: tokens have none.

    Raises:
        TypeError: `input must hold token numbers, got …`; `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods", ACL 2015; Bowman et al.,
        "Generating Sentences from a Continuous Space", CoNLL 2016.

    Example:
        >>> import torch, thinned
        >>> word_dropout(torch.tensor([5, 6, 7, 8, 9]), 0.5, 0, training=True, key=thinned.Key(0))
        tensor([5, 0, 7, 8, 9])
    """
    training = check_training(training)
    if input.is_floating_point() or input.is_complex() or input.dtype == torch.bool:
        raise TypeError(f"input must hold token numbers, got {input.dtype}: dropout drops real numbers")
    replacement, *tokens = check_tokens(replacement, protected, str(input.dtype).removeprefix("torch."))
    check_number(p, input)

    def drawn(bits: Tensor) -> Tensor:
        kept = numbers(input, bits, "word", None, place) >= drop_threshold(p, input.device)
        for token in tokens:
            kept = kept | (input == token)
        return torch.where(kept, input, replacement)

    return drawn_in_training(input, training, (key, generator), lambda: input, drawn)


@overridable
@requires_training
def embedding_dropout(
    input: Tensor,
    weight: Tensor,
    p: float | Tensor,
    training: bool,
    *,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Equivalent to `torch.nn.functional.embedding` with whole rows of the table, words, dropped.

    A word that is dropped is dropped wherever it occurs in the input. The table is not written to, and not
    copied: the decisions are one number a word, and only rows that are looked up are multiplied.

    Args:
        input: word numbers, an integer tensor of any shape.
        weight: the table, (words, features); float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1]; or a tensor of them, (words, 1) for one of each word.
        training: True drops, False looks up.
        padding_idx: as torch's, like all up to `sparse`.
        max_norm: rows that are longer are shortened, in the table: torch writes to it.
        norm_type: of `max_norm`.
        scale_grad_by_freq: divide gradients by how often a word occurs.
        sparse: make the table's gradient sparse.
        key: of the mask, which is one of shape (words, 1). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.

    Returns:
        A tensor of input's shape and one dimension more, the features. Rows that are kept are multiplied by
        1/(1−p), those dropped are +0.0, and so are their gradients.

    Raises:
        TypeError: `training is missing …`; `input must be float32, …`, of the table; `p must be a real …`.
        ValueError: `p must be in [0, 1], got …`; `weight must be (words, features), got shape …`.

    Source:
        Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        NeurIPS 2016; Merity et al., "Regularizing and Optimizing LSTM Language Models", ICLR 2018.

    Example:
        >>> import torch, thinned
        >>> text, table = torch.tensor([0, 1, 2, 1]), torch.ones(3, 2)
        >>> embedding_dropout(text, table, 0.5, training=True, key=thinned.Key(0))
        tensor([[2., 2.],
                [0., 0.],
                [2., 2.],
                [0., 0.]])
    """
    training = check_training(training)
    _native.check_dtype(weight)
    if weight.dim() != 2:
        raise ValueError(f"weight must be (words, features), got shape {tuple(weight.shape)}")
    _operands.one_device("weight", weight, input=input)
    wide = torch.promote_types(weight.dtype, torch.float32)
    _mesh.check_source(weight, key, generator)
    if training:
        _onnx.refuse("dropped words of a table")
    ones = torch.ones((), dtype=wide, device=weight.device).expand(weight.shape[0], 1)
    factors = dropout(ones, p, training, key=key, generator=generator)
    rows = torch.nn.functional.embedding(
        input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
    )
    if factors is ones:
        return rows
    each = torch.nn.functional.embedding(input, _mesh.beside(weight, factors, divided=False))
    return (rows.to(wide) * each).masked_fill(each == 0, 0).to(weight.dtype)


@overridable
def patch_dropout(
    input: Tensor,
    p: float,
    training: bool = REQUIRED,
    *,
    prefix_tokens: int = 1,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Keep a fixed number of tokens of each sample, those of the largest numbers of the mask, in their order.

    Args:
        input: (N, L, …), tokens, of which the first may be none of the picture's.
        p: share of tokens that is dropped, a number in [0, 1]; at least one stays.
        training: True drops, False evaluates to input itself.
        prefix_tokens: so many at the beginning, class tokens, always stay.
        key: of the mask, of shape (N, L − prefix_tokens). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` of the (N, L − prefix_tokens) numbers.

    Returns:
        (N, prefix_tokens + max(1, ⌊(1 − p)(L − prefix_tokens)⌋), …). What is kept is not scaled.

    Raises:
        TypeError: `p must be a real number, got …`; `training is missing …`; `… a schedule of p cannot be
            compiled`.
        ValueError: `p must be in [0, 1], got …`; `p has no gradient …`; `patch_dropout takes (N, L, …), got
            shape …`.

    Source:
        Yue Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023.

    Example:
        >>> import torch, thinned
        >>> x = torch.arange(9.0).reshape(1, 9, 1)
        >>> patch_dropout(x, 0.5, training=True, key=thinned.Key(0)).flatten()
        tensor([0., 1., 3., 4., 7.])
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    if isinstance(p, Tensor) and torch.compiler.is_compiling():
        raise TypeError("patch_dropout makes its output's shape of p: a schedule of p cannot be compiled")
    _rate.threshold(p, input)
    p = check_probability(p)
    key = _key.check_source(key, generator)
    check_integer("prefix_tokens", prefix_tokens)
    tokens = input.shape[1] - prefix_tokens if input.dim() > 1 else -1
    if tokens < 1 or prefix_tokens < 0:
        raise ValueError(
            f"patch_dropout takes (N, L, …) with more than {prefix_tokens} tokens, got shape "
            f"{tuple(input.shape)}"
        )
    if not training or p == 0:
        return input
    _mesh.check_source(input, key, generator)
    count = max(1, int((1.0 - p) * tokens))
    like = input.new_empty(()).expand(input.shape[0], tokens)
    word = numbers(like, _key.as_tensor(key, generator), "word", None, place)
    order = torch.argsort(word, dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values
    first = torch.arange(prefix_tokens, device=input.device).expand(input.shape[0], prefix_tokens)
    index = torch.cat([first, order + prefix_tokens], 1)
    index = index.reshape(*index.shape, *(1,) * (input.dim() - 2)).expand(-1, -1, *input.shape[2:])
    return input.gather(1, index)
