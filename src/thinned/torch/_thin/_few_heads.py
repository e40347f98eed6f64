"""What stands for a tensor of all heads where only the kept ones are computed.

A model's own code splits a projection into heads, attends, and joins them again, with sizes that it took
from whole tensors. It goes on with one of these in a tensor's place, which answers with the sizes of the
whole and computes on the part.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from thinned.torch._conversion._trace import in_function
from thinned.torch._thin._kept import Kept

FUNCTION = (
    "a torch.autograd.Function, such as a checkpoint with use_reentrant=True, which gives no gradient to "
    "what stands for kept heads"
)


class HeadsError(RuntimeError):
    """It names what stands between a projection and its site, and may mix heads."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: it stands between a thin site of heads and the projections around it, which compute "
            "kept heads alone, and was not there when thin(model) looked; unthin(model) computes all"
        )
        self.what = what


def _operator(name: str, function: Callable[..., Any], swapped: bool = False) -> Callable[..., Any]:
    def operate(self: Any, *others: Any) -> Any:
        return self.call(name, function, (*others, self) if swapped else (self, *others), {})

    return operate


@dataclass(frozen=True, eq=False)
class FewHeads:
    """These are the kept heads of a tensor, with the shape that the whole would have.

    Attributes:
        part: what is there.
        shape: of the whole.
        axis: the dimension that has the heads: of each of `outer` parts, each head's `inner` elements.
        kept: which heads are there.
        dropped: whether the site has seen it. What reads it then multiplies it by the scale.
        shut_in: whether it was made in an autograd function, which has to give tensors.
    """

    part: Tensor
    shape: torch.Size
    axis: int
    outer: int
    inner: int
    kept: Kept
    dropped: bool = False
    shut_in: bool = field(default_factory=lambda: not torch.is_grad_enabled() and in_function())
    # What functions and methods of tensors are: `_few_functions` says it.
    call: ClassVar[Callable[..., Any]]
    attribute: ClassVar[Callable[..., Any]]

    @property
    def heads(self) -> int:
        """Tells how many there are in all."""
        return self.kept.size

    def check(self) -> None:
        """Hold that it does not enter or leave an autograd function, which would lose its gradient.

        Raises:
            HeadsError: `a torch.autograd.Function …`.
        """
        graded = torch.is_grad_enabled()
        if self.shut_in if graded else self.part.requires_grad and in_function():
            raise HeadsError(FUNCTION)

    def of(self, part: Tensor, axis: int, shape: Any = None, outer: int = 0, inner: int = 0) -> FewHeads:
        """Gives the same heads of another tensor."""
        self.check()
        outer, inner = outer or self.outer, inner or self.inner
        size = outer * self.heads * inner
        whole = list(part.shape) if shape is None else list(shape)
        whole[axis] = size
        return replace(self, part=part, shape=torch.Size(whole), axis=axis, outer=outer, inner=inner)

    def after_site(self) -> FewHeads:
        """Gives the same behind the site."""
        return replace(self, dropped=True)

    def reshaped(self, *sizes: int) -> FewHeads:
        """Gives a view or a copy of other sizes, one of which has the heads of a part."""
        sizes = _resolved(sizes, self.shape.numel())
        before = math.prod(self.shape[: self.axis]) * self.outer
        done = 1
        for axis, size in enumerate(sizes):
            outer, wide = before // done, before * self.heads
            inner = done * size // wide
            if before % done == 0 and inner and done * size % wide == 0:
                width = self.part.shape[self.axis] // (self.outer * self.inner)
                least = [*sizes[:axis], outer * width * inner, *sizes[axis + 1 :]]
                return self.of(self.part.reshape(least), axis, sizes, outer, inner)
            done *= size
        raise HeadsError(f"a shape {tuple(sizes)} in which heads do not stand side by side")

    def narrowed(self, other: Any) -> Any:
        """Gives the kept heads of what is combined with it: a number, a tensor, or such a stand-in."""
        if not isinstance(other, (Tensor, FewHeads)):
            return other
        behind = len(self.shape) - self.axis
        if isinstance(other, FewHeads):
            there = len(other.shape) - other.axis == behind
            alike = (other.outer, other.inner) == (self.outer, self.inner)
            if not there or not alike or not self.kept.same(other.kept):
                raise HeadsError("two tensors whose heads stand in other places")
            return other.part
        if other.dim() < behind or other.shape[-behind] == 1:
            return other
        if other.shape[-behind] != self.shape[self.axis]:
            raise HeadsError(
                f"a tensor of shape {tuple(other.shape)}, whose sizes are not those of the heads"
            )
        numbers = self.kept.of(self.outer, self.inner).on(other.device)
        if len(numbers) > 1 or self.part.shape[self.axis] != len(numbers[0]):
            raise HeadsError("a tensor with a part for each head, where groups of the batch keep other heads")
        return other.index_select(other.dim() - behind, numbers[0])

    def __getattr__(self, name: str) -> Any:
        return self.attribute(self, name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cls.call(getattr(func, "__name__", str(func)), func, args, kwargs or {})

    def __iter__(self) -> Iterator[Any]:
        return iter(self.unbind(0))

    def __len__(self) -> int:
        return self.shape[0]

    __getitem__, __hash__ = _operator("getitem", operator.getitem), object.__hash__

    def __bool__(self) -> bool:
        raise HeadsError("a decision by what is in a tensor")


# Of two objects Python's own say that they differ: silently wrong of what stands for a tensor.
_PAIRS = ("add", "sub", "mul", "truediv", "pow", "matmul", "floordiv", "mod", "and", "or", "xor")
for _name in (*_PAIRS, "lshift", "rshift", "neg", "pos", "abs", "invert"):
    _function = getattr(operator, f"__{_name}__")
    setattr(FewHeads, f"__{_name}__", _operator(_name, _function))
    if _name in _PAIRS:
        _reflected = f"r{_name}"
        setattr(FewHeads, f"__{_reflected}__", _operator(_name, _function, True))
for _name in ("eq", "ne", "gt", "lt", "ge", "le"):
    setattr(FewHeads, f"__{_name}__", _operator(_name, getattr(operator, _name)))
for _name in ("setitem", "contains", "float", "int", "index", "complex"):
    setattr(FewHeads, f"__{_name}__", _operator(_name, float))


def _resolved(sizes: tuple[Any, ...], count: int) -> torch.Size:
    """Sizes of a view, with the one that is -1."""
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    known = math.prod(size for size in given if size != -1)
    made = torch.Size(count // known if size == -1 else size for size in given)
    if made.numel() != count:
        raise HeadsError(f"a shape {tuple(given)} of {count} elements")
    return made
