"""Dropout of whole words."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned._arguments import check_training, requires_training
from thinned.contract import Key
from thinned.torch import _mesh, _native, _onnx, _operands
from thinned.torch._overrides import overridable
from thinned.torch.functional._dropout import dropout


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
