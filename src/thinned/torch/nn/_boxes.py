"""These layers mask boxes of a map: spans of time and frequency, and boxes of a picture."""

from __future__ import annotations

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.nn._part_keys import call_key, part_key


class SpecAugment(Site):
    """Mask spans of frequency and of time of a spectrogram, (N, …, frequency, time), in training.

    Args:
        frequency_width: F, the widest mask of frequencies.
        time_width: T, the widest mask of times.
        frequency_masks: how many of the first.
        time_masks: how many of the second.
        value: what is written there.

    Source:
        Park et al., "SpecAugment", Interspeech 2019; the warp of time is no dropout, and not in it.

    Example:
        >>> import torch
        >>> SpecAugment(27, 100)(torch.ones(2, 80, 500)).shape
        torch.Size([2, 80, 500])
    """

    def __init__(
        self,
        frequency_width: int,
        time_width: int,
        frequency_masks: int = 2,
        time_masks: int = 2,
        value: float = 0.0,
    ) -> None:
        super().__init__()
        self.frequency = (frequency_width, frequency_masks, -2)
        self.time = (time_width, time_masks, -1)
        self.value = value

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Mask in training, by `key` if given; `call` tells calls of one step apart."""
        whole = call_key(self, call, key) if self.training or key is not None else None
        for part, (width, count, dim) in enumerate((self.frequency, self.time)):
            input = functional.mask_spans(
                input,
                width,
                count,
                dim,
                self.training,
                value=self.value,
                key=part_key(whole, part) if self.training else None,
                **self.place(input, 0, (input.shape[0], count, 2)),
            )
        return input

    def extra_repr(self) -> str:
        """Widths and numbers of the masks."""
        return f"frequency={self.frequency[:2]}, time={self.time[:2]}"


class Cutout(Site):
    """Mask a box of each picture, (N, C, H, W), with probability p in training.

    Args:
        size: of the box, a number, or height and width.
        p: probability in [0, 1] that a picture has a box, or a schedule.
        value: what is written there.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `cutout takes (N, C, H, W), got shape …`.

    Source:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    Example:
        >>> import torch
        >>> Cutout(16)(torch.ones(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """

    _shown = ("size", "p")

    def __init__(self, size: int | tuple[int, int], p: Probability = 1.0, value: float = 0.0) -> None:
        super().__init__()
        self.p = check_p(p)
        self.size, self.value = size, value

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Mask in training, by `key` if given; `call` tells calls of one step apart."""
        return functional.cutout(
            input,
            self.size,
            self.rate(self.p),  # type: ignore[arg-type]
            self.training,
            value=self.value,
            key=self.mask_key(call, input, key),
            **self.place(input, 0, (input.shape[0], 3)),
        )
