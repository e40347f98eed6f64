"""Word dropout: tokens of a text replaced before they are looked up."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_tokens, check_training
from thinned.contract import Key
from thinned.torch import _export, _key, _mesh
from thinned.torch._numbers import drop_threshold, numbers
from thinned.torch._overrides import overridable
from thinned.torch._place import Place
from thinned.torch.functional._rates import check_number


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
    key = _key.check_source(key, generator)
    if not training:
        return input
    _mesh.check_source(input, key, generator)
    word = numbers(input, _key.as_tensor(key, generator), "word", None, place)
    kept = word >= drop_threshold(p, input.device)
    for token in tokens:
        kept = kept | (input == token)
    return _export.turned(torch.where(kept, input, replacement), lambda: input)
