"""The masks of one step of a wrapped cell: one key, folded by the name of what it drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thinned.tensorflow import _dropout, _key, _rate, _rnn_states


@dataclass(frozen=True)
class Masks:
    """Holds what is dropped in a step, and how.

    Attributes:
        key: the step's, a `Key` or a tensor; None where nothing is dropped.
        training: bool, or a bool tensor.
        shared: whether all samples have the same mask.
    """

    key: Any
    training: Any
    shared: bool

    def drop(self, x: Any, keep: Any, name: str) -> Any:
        """Every leaf of a structure; one that is alone has the key of the name itself."""
        leaves = _rnn_states.leaves(x)
        if keeps_all(keep):
            return x
        if len(leaves) == 1:
            return _rnn_states.replaced(x, [self._masked(leaves[0], keep, self._folded(self.key, name))])
        return self.drop_where([True] * len(leaves), x, keep, name)

    def drop_where(self, wanted: list[bool], x: Any, keep: Any, name: str) -> Any:
        """The wanted leaves of a structure, each by the key of the name folded by the leaf's number."""
        own = self._folded(self.key, name)
        new = [
            self._masked(leaf, keep, self._folded(own, index)) if yes else leaf
            for index, (leaf, yes) in enumerate(zip(_rnn_states.leaves(x), wanted, strict=True))
        ]
        return _rnn_states.replaced(x, new)

    def _masked(self, x: Any, keep: Any, key: Any) -> Any:
        x = _dropout.check_input(x)
        if key is None:
            return x
        if self.shared and x.shape.rank is None:
            raise ValueError("variational_recurrent=True needs tensors of a known number of dimensions")
        noise = (1, *(None,) * (x.shape.rank - 1)) if self.shared and x.shape.rank > 1 else None
        return _dropout.dropout(x, _rate.complement(keep), key=key, training=self.training, noise_shape=noise)

    @staticmethod
    def _folded(key: Any, data: Any) -> Any:
        return None if key is None else _key.fold(key, data)


def keeps_all(keep: Any) -> bool:
    """Tells whether it is known beforehand that nothing is dropped."""
    return isinstance(keep, float) and keep == 1.0
