"""DropBlock drops contiguous blocks of a channel's map together."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from thinned._boxes import clamp, seed_rate
from thinned.contract import check_integer, check_probability, threshold
from thinned.keras._added_layer import SameShape, check_floating, checked_format
from thinned.keras._backend import active
from thinned.keras._site import Seed


@keras.saving.register_keras_serializable(package="thinned")
class DropBlock2D(SameShape):
    """Drop blocks of each channel's map in training, so that an element is dropped with probability `rate`.

    The masks and values of `thinned.torch.nn.DropBlock2d`: a seed may fire where a whole block has room, at
    the probability at which the expected share of dropped elements is the rate; what a sample keeps is
    multiplied by its size over the number kept.

    Args:
        rate: share to drop, in [0, 1].
        block_size: sides of a block, a positive integer or one for height and width.
        data_format: "channels_last", "channels_first", or None for Keras's `image_data_format`.
        seed: see `Dropout`. The seeds of blocks are the mask of shape (N, C, H − block + 1, W − block + 1).
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; `block_size must be positive, got …`; in a call, for inputs that are not of
            four dimensions, or whose height and width are not known.

    Source:
        Ghiasi, Lin and Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018.

    Example:
        >>> layer = DropBlock2D(0.3, 2, data_format="channels_last", seed=1, name="blocks")
        >>> layer(keras.ops.ones((2, 8, 8, 3)), training=True).shape == (2, 8, 8, 3)
        True
    """

    def __init__(
        self,
        rate: float,
        block_size: int | tuple[int, int],
        data_format: str | None = None,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        rate = check_probability(rate, "rate")
        sides = tuple(block_size) if isinstance(block_size, (tuple, list)) else (block_size,) * 2
        sides = tuple(check_integer("block_size", side) for side in sides)
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"block_size must be positive, an integer or two of them, got {block_size}")
        super().__init__(seed, **kwargs)
        self.rate, self.block_size = rate, sides
        self.data_format = checked_format(data_format)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop in training."""
        rate = check_probability(self.rate, "rate")
        shape = tuple(inputs.shape)
        last = self.data_format == "channels_last"
        if len(shape) != 4 or not all(maps := shape[1:3] if last else shape[2:]):
            raise ValueError(f"inputs must be pictures of a known height and width, got shape {shape}")
        check_floating(inputs)
        if not training or not rate:
            return inputs
        order = (0, 3, 1, 2)
        first = ops.transpose(inputs, order) if last else inputs
        kept = self._blocks(first, maps, rate)
        wide = "float64" if keras.backend.standardize_dtype(inputs.dtype) == "float64" else "float32"
        each = ops.cast(ops.prod(ops.shape(first)[1:]), wide)
        rest = ops.sum(ops.cast(kept, wide), (1, 2, 3), keepdims=True)
        factor = ops.where(rest > 0, each / ops.maximum(rest, 1.0), 0.0)
        value = ops.cast(ops.cast(first, wide) * factor, inputs.dtype)
        out = ops.where(kept, value, ops.zeros((), inputs.dtype))
        return ops.transpose(out, (0, 2, 3, 1)) if last else out

    def _blocks(self, first: Any, maps: tuple[int, int], rate: float) -> Any:
        """True where kept, of (N, C, H, W)."""
        block = clamp(self.block_size, maps)
        gamma = seed_rate(threshold(rate) / 2.0**32, maps, block)
        lead = [ops.shape(first)[axis] for axis in (0, 1)]
        ones = ops.ones((*lead, *(size - one + 1 for size, one in zip(maps, block, strict=True))), "float32")
        kept = active.dropout(ones, gamma, self.mask_key(), True, None, "classic")
        for axis, one in enumerate(block, 2):
            kept = _grown(kept, axis, one)
        return kept != 0

    def rate_now(self) -> float:
        """The rate."""
        return self.rate

    def get_config(self) -> dict[str, Any]:
        """With the rate and the block."""
        own = {"rate": self.rate, "block_size": self.block_size, "data_format": self.data_format}
        return {**super().get_config(), **own}


def _grown(kept: Any, axis: int, block: int) -> Any:
    """Each seed drops itself and the block − 1 elements after it, by windows of twice the size in turn."""
    pads = [[0, 0] if at != axis else [block - 1, block - 1] for at in range(4)]
    grown = ops.pad(kept, pads, constant_values=1.0)
    window = 1
    while window < block:
        step = min(window, block - window)
        size = grown.shape[axis] - step
        grown = ops.minimum(
            grown[(slice(None),) * axis + (slice(0, size),)],
            grown[(slice(None),) * axis + (slice(step, step + size),)],
        )
        window += step
    return grown
