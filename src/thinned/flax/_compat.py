"""Names of Flax beside its documented ones, each with its purpose; a message names one that is gone."""

from __future__ import annotations

from typing import Any

import flax

from thinned.jax._compat import needed

_WANTED: dict[str, Any] = {"by": "thinned.flax", "package": flax, "tested": "flax==0.12.*"}

# Attention's probabilities: linen's are public, nnx's not.
nnx_attention_weights: Any = needed("flax.nnx.nn.attention", "dot_product_attention_weights", **_WANTED)
# The default of an argument that nnx's attention layer passes on, and linen's way to one type of arguments.
nnx_promote_dtype: Any = needed("flax.nnx.nn.dtypes", "promote_dtype", **_WANTED)
linen_promote_dtype: Any = needed("flax.linen.dtypes", "promote_dtype", **_WANTED)
