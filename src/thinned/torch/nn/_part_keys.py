"""A layer of several masks has one key for a call, folded by the number of each part."""

from __future__ import annotations

from torch import Tensor

from thinned.contract import Key
from thinned.torch import _key
from thinned.torch._overrides import overridable
from thinned.torch._site import MaskKey, Site, traced


@overridable
def call_key(site: Site, call: int | None = None, key: MaskKey = None) -> Key | Tensor:
    """The key of a call; drawn, once for all its parts, where it is not given one and the site has none."""
    key = site.mask_key(call, given=key)
    if key is not None:
        return key
    return _key.draw() if traced() else Key(*_key.as_words(None))


def part_key(key: MaskKey, number: int) -> MaskKey:
    """The key of one part; none where none is needed."""
    return None if key is None else _key.folded(key, number)


def is_off(p: float | Tensor) -> bool:
    """Tells whether nothing is dropped, as far as is known before the code runs."""
    return not isinstance(p, Tensor) and p == 0
