"""An ensemble of one network has a fixed mask for each member, the same at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned import contract
from thinned._arguments import check_key
from thinned.contract import Key, check_integer, check_probability
from thinned.torch._key import as_tensor
from thinned.torch._numbers import numbers, word_at


class FixedDropout(torch.nn.Module):
    """Dropout by masks that never change: each member of an ensemble has one, shared by all samples.

    A batch is divided among the members as Masksembles does: of R rows, row r is of member r · members // R.
    So `layer(x.repeat(members, 1))` gives all members' outputs of x, one after the other. Member i's mask is
    dropout's at p, of one sample's shape, by `key.fold(i)`; it drops in training and in evaluation alike, and
    no state is kept.

    Args:
        p: drop probability in [0, 1], a number.
        members: how many there are.
        key: of the masks.
        channels: whether a member drops dimension 1 as a whole: features, or channels of a map.

    Attributes:
        member: the one that all rows are of; None divides them.

    Raises:
        TypeError: `p must be a real number, got …`; `key must be a thinned.Key, got …`.
        ValueError: `members must be positive, got …`; in a call, `… rows are not divided by … members`.

    Source:
        Durasov et al., "Masksembles for Uncertainty Estimation", CVPR 2021, who compare with masks of this
        kind.

    Example:
        >>> import torch, thinned
        >>> layer = FixedDropout(0.5, 2, key=thinned.Key(0))
        >>> layer(torch.ones(4, 5))
        tensor([[0., 0., 0., 2., 0.],
                [0., 0., 0., 2., 0.],
                [0., 0., 2., 2., 2.],
                [0., 0., 2., 2., 2.]])
    """

    def __init__(self, p: float, members: int, *, key: Key, channels: bool = True) -> None:
        super().__init__()
        self.p = check_probability(p)
        if check_integer("members", members) < 1:
            raise ValueError(f"members must be positive, got {members}")
        self.members, self.key, self.channels = members, check_key(key), channels
        self.member: int | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(N, …), each row by its member's mask."""
        if input.dim() < 2 or not input.is_floating_point():
            raise ValueError(
                f"input must be real numbers (N, F, …), got {input.dtype} of {tuple(input.shape)}"
            )
        rows = input.shape[0]
        if self.member is not None:
            if not 0 <= check_integer("member", self.member) < self.members:
                raise ValueError(f"member must be from 0 to {self.members - 1}, or None, got {self.member}")
            return self._kept(input, self._masks(input)[self.member])
        if rows % self.members:
            raise ValueError(
                f"{rows} rows are not divided by {self.members} members: repeat the batch, or set member"
            )
        parts = input.reshape(self.members, rows // self.members, *input.shape[1:])
        return self._kept(parts, self._masks(input).unsqueeze(1)).reshape(input.shape)

    def _masks(self, input: Tensor) -> Tensor:
        """Returns the masks of all members, (members, …), of one sample's shape or with 1 where shared.

        By the numbers themselves: a call of `dropout` would be a site, whose masks `thinned.mc` draws.
        """
        shape = input.shape[1:2] if self.channels else input.shape[1:]
        keys = torch.stack([as_tensor(self.key.fold(member)) for member in range(self.members)])
        words = numbers(input.new_empty(()).expand(shape), keys, "word")
        kept = words >= contract.threshold(self.p)
        return kept.reshape(self.members, *shape, *(1,) * (input.dim() - 1 - len(shape)))

    def _kept(self, input: Tensor, mask: Tensor) -> Tensor:
        wide = torch.promote_types(input.dtype, torch.float32)
        value = (input.to(wide) * contract.scale(self.p)).to(input.dtype)
        return torch.where(mask, value, 0.0)

    def extra_repr(self) -> str:
        """The rate and the members."""
        return f"p={self.p}, members={self.members}"


class Masksembles(FixedDropout):
    """Equivalent to the paper's Masksembles1D and 2D: masks of features whose overlap is chosen.

    Each of the masks keeps equally many features. With scale 1 all masks keep everything, as a single
    network; the larger, the less two masks have in common, as in an ensemble.

    Args:
        features: size of dimension 1.
        members: how many masks there are.
        scale: S ≥ 1; each mask keeps about features / (S · (1 − (1 − 1/S)^members)) of them.
        key: of the masks.

    Attributes:
        masks: (members, features), bool.
        member: the one that all rows are of; None divides them.

    Raises:
        TypeError: `key must be a thinned.Key, got …`.
        ValueError: `members must be positive, got …`; `scale must be 1 or more, got …`.

    Source:
        Durasov, Bagautdinov, Baque and Fua, "Masksembles for Uncertainty Estimation", CVPR 2021.

    Example:
        >>> import torch, thinned
        >>> layer = Masksembles(8, 4, scale=2.0, key=thinned.Key(0))
        >>> layer.masks.sum(1)
        tensor([4, 4, 4, 4])
        >>> layer(torch.ones(8, 8)).shape
        torch.Size([8, 8])
    """

    masks: Tensor

    def __init__(self, features: int, members: int, scale: float = 2.0, *, key: Key) -> None:
        super().__init__(0.0, members, key=key)
        if check_integer("features", features) < 1:
            raise ValueError(f"features must be positive, got {features}")
        if not 1 <= scale < 1e6:
            raise ValueError(
                f"scale must be 1 or more, and less than 10^6, got {scale}: 1 has all masks keep everything"
            )
        used = 1.0 - (1.0 - 1.0 / scale) ** members
        self.scale = scale
        ones = min(features, max(1, round(features / (scale * used))))
        # On the CPU whatever the default device is: a buffer that is not saved has to be made in any case.
        chosen = torch.zeros(members, features, dtype=torch.bool, device="cpu")
        for member in range(members):
            words = word_at(torch.arange(features, device="cpu"), key.fold(member))
            order = torch.argsort(words, descending=True, stable=True)
            chosen[member, order[:ones]] = True
        self._chosen = chosen
        self.register_buffer("masks", chosen.to(torch.get_default_device()), persistent=False)

    def _masks(self, input: Tensor) -> Tensor:
        masks = self.masks
        if input.dim() < 2 or input.shape[1] != masks.shape[1]:
            raise ValueError(f"Masksembles takes (N, {masks.shape[1]}, …), got shape {tuple(input.shape)}")
        return masks.reshape(*masks.shape, *(1,) * (input.dim() - 2))

    def _apply(self, *arguments: Any, **options: Any) -> Masksembles:
        """torch's, by which a module is moved: it puts values in the memory that `to_empty` gives without."""
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        self.masks = self._chosen.to(self.masks.device)
        return self

    def extra_repr(self) -> str:
        """Features, masks and scale."""
        masks = self.masks
        return f"features={masks.shape[1]}, members={self.members}, scale={self.scale}"


def members(model: torch.nn.Module, input: Tensor) -> Tensor:
    """All members' outputs of a model with fixed masks, in one pass.

    Args:
        model: with `FixedDropout` or `Masksembles` in it, all of as many members.
        input: (N, …).

    Returns:
        (members, N, …): the mean over the first dimension is the ensemble's prediction.

    Raises:
        ValueError: `model has no FixedDropout and no Masksembles`; `… are not of as many members`.

    Source:
        Durasov et al., "Masksembles for Uncertainty Estimation", CVPR 2021.

    Example:
        >>> import torch, thinned
        >>> layer = FixedDropout(0.5, 3, key=thinned.Key(0))
        >>> members(layer, torch.ones(2, 4)).shape
        torch.Size([3, 2, 4])
    """
    layers = [each for each in model.modules() if isinstance(each, FixedDropout)]
    found = {each.members for each in layers}
    if not found:
        raise ValueError("model has no FixedDropout and no Masksembles: it has one member")
    if len(found) > 1:
        raise ValueError(f"its layers are not of as many members: {sorted(found)}")
    if any(each.member is not None for each in layers):
        raise ValueError("a layer's member is set, so that all rows are of that one: set it to None")
    (count,) = found
    output: Tensor = model(input.repeat(count, *(1,) * (input.dim() - 1)))
    return output.reshape(count, input.shape[0], *output.shape[1:])
