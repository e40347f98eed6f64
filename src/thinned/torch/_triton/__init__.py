"""CUDA through Triton: the contract's bits, computed where the tensor is.

Kernels are in `_bits` (random numbers, masks, values), `_dropout`, `_norm`, and `_attention` with its
neighbours (`_tile` draws their masks); `_launch`, `_launch_norm` and `_launch_attention` call them.
Nothing here is imported before a CUDA tensor is met.
"""
