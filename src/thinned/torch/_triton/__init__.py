"""CUDA through Triton: the contract's bits, computed where the tensor is.

Kernels are in `_bits` (random numbers, masks, values), `_dropout` and `_norm`; `_launch` and `_launch_norm`
call them. Nothing here is imported before a CUDA tensor is met.
"""
