"""Attention of several heads drops its probabilities here."""

from __future__ import annotations

import math
from typing import Any, Final

import keras

from thinned.keras import _compat
from thinned.keras._backend import active
from thinned.keras._dropout import Dropout
from thinned.keras._site import Seeded, checked

_CAUSAL: Final = object()  # in place of a mask that is the causal one alone, which then is not made


_compat.check_heads()


class Heads(Seeded):
    """A mixin in front of Keras's layers of several heads.

    Keras gives them a layer that drops the probabilities. Ours takes its place, under the name of the whole.
    """

    name: str
    dtype_policy: Any
    _dropout_layer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        args, kwargs, seed = checked(super().__init__, args, kwargs)
        super().__init__(*args, **kwargs)
        self.__dict__["seed"] = seed  # an assignment would have a generator tracked

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Keras's, with the layer that drops exchanged."""
        seed = self.seed
        self.__dict__["seed"] = 0  # for Keras's layer, which draws a seed where it has none
        super().build(query_shape, value_shape, key_shape)  # type: ignore[misc]
        self.__dict__["seed"] = seed
        kerass = _compat.dropout_layer_of(self)
        _compat.tracker_of(self).untrack(kerass)
        self._dropout_layer = Dropout(kerass.rate, seed=seed, dtype=self.dtype_policy, name=self.name)

    def _compute_attention_mask(
        self,
        query: Any,
        value: Any,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        masks = (query_mask, value_mask, key_mask, attention_mask, self._window())
        if use_causal_mask and all(mask is None for mask in masks):
            return _CAUSAL
        return super()._compute_attention_mask(  # type: ignore[misc]
            query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask
        )

    def _window(self) -> Any:
        return _compat.window_of(self) or getattr(self, "sliding_window", None)

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        causal = attention_mask is _CAUSAL or use_causal_mask
        mask = None if attention_mask is _CAUSAL else attention_mask
        asked = return_attention_scores or _compat.scores_asked(self)
        both = causal and mask is not None
        if training and not (asked or both) and self._recomputes(query):
            return self._recomputed(query, key, value, mask, causal), None
        options = {"return_attention_scores": True} if return_attention_scores else {}
        return super()._compute_attention(  # type: ignore[misc]
            query, key, value, mask, training, use_causal_mask=causal, **options
        )

    def _recomputes(self, query: Any) -> bool:
        """Tells whether the backend's attention drops; not where a tool records or replaces it."""
        layer = self._dropout_layer
        ours = type(layer) is Dropout and "call" not in vars(layer)
        return bool(ours and layer.rate and active.attention is not None and len(query.shape) == 4)

    def _recomputed(self, query: Any, key: Any, value: Any, mask: Any, causal: bool) -> Any:
        if mask is not None:
            while len(mask.shape) < 4:
                mask = keras.ops.expand_dims(mask, -3)
        layer = self._dropout_layer
        scale = 1.0 / math.sqrt(query.shape[-1])
        output = active.attention(query, key, value, mask, layer.rate, layer.mask_key(), scale, causal)
        return keras.ops.cast(output, query.dtype)


@keras.saving.register_keras_serializable(package="thinned")
class MultiHeadAttention(Heads, keras.layers.MultiHeadAttention):  # type: ignore[misc]
    """Equivalent to `keras.layers.MultiHeadAttention`, of which it is a subclass.

    The mask is that of the probabilities, (batch, heads, target length, source length). On JAX and PyTorch
    the probabilities are computed again for the gradient where they are not asked for.

    Args:
        *args: as `keras.layers.MultiHeadAttention`.
        **kwargs: likewise; `dropout` in [0, 1], and `seed` as in `Dropout`.

    Raises:
        TypeError: `dropout must be a real number, got …`, and as `Dropout` for the seed.
        ValueError: `dropout must be in [0, 1], got …`, and as `Dropout` for the seed.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017; CONTRACT.md, section 3.

    Example:
        >>> layer = MultiHeadAttention(2, 4, dropout=0.5, seed=1, name="attention")
        >>> x = keras.ops.ones((1, 3, 8))
        >>> layer(x, x, training=True).shape == (1, 3, 8)
        True
    """


@keras.saving.register_keras_serializable(package="thinned")
class GroupedQueryAttention(Heads, keras.layers.GroupQueryAttention):  # type: ignore[misc]
    """Equivalent to `keras.layers.GroupQueryAttention`, of which it is a subclass.

    Args:
        *args: as `keras.layers.GroupQueryAttention`.
        **kwargs: likewise; see `MultiHeadAttention`.

    Raises:
        TypeError: as `MultiHeadAttention`.
        ValueError: as `MultiHeadAttention`.

    Source:
        Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
        Checkpoints", EMNLP 2023.

    Example:
        >>> layer = GroupQueryAttention(4, 4, 2, dropout=0.5, seed=1, name="attention")
        >>> x = keras.ops.ones((1, 3, 8))
        >>> layer(x, x, training=True).shape == (1, 3, 8)
        True
    """


# As in Keras: a file of weights has the class's own name, which is not the public one.
GroupQueryAttention = GroupedQueryAttention
