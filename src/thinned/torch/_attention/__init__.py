"""Attention drops its probabilities by tiles, forward and backward, and never stores them."""

from thinned.torch._attention._operator import attention as attention
