"""Attention whose probabilities are dropped by tiles, forward and backward, and never stored."""

from thinned.torch._attention._operator import attention as attention
