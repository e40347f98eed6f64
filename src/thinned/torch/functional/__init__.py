"""Dropout as functions of tensors, in the manner of `torch.nn.functional`."""

from thinned.torch.functional._dropout import dropout, keep_mask

__all__ = ["dropout", "keep_mask"]
