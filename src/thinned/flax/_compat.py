"""Flax's undocumented names stand here, each with its purpose; a message names one that is gone."""

from __future__ import annotations

from typing import Any

import flax

from thinned._private import Room

ROOM = Room(flax, "thinned.flax", "flax==0.12.*")

nnx_attention_weights: Any = ROOM.name(
    "flax.nnx.nn.attention.dot_product_attention_weights",
    "compute attention's probabilities",
    instead="nothing public in nnx; linen's are",
)
nnx_promote_dtype: Any = ROOM.name(
    "flax.nnx.nn.dtypes.promote_dtype", "take an argument that nnx's attention layer passes on"
)
linen_promote_dtype: Any = ROOM.name(
    "flax.linen.dtypes.promote_dtype", "bring attention's arguments to one type"
)
