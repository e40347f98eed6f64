"""Attention without projections drops its probabilities here."""

from __future__ import annotations

from typing import Any

import keras

from thinned.contract import check_probability
from thinned.keras._backend import active
from thinned.keras._site import Seed, Site, held


class Scored(Site):
    """A mixin in front of Keras's `Attention` and what is made of it."""

    dropout: float
    call: Any

    def _apply_scores(self, scores: Any, value: Any, scores_mask: Any = None, training: Any = False) -> Any:
        if not (training and self.dropout):
            return super()._apply_scores(scores, value, scores_mask, training=False)  # type: ignore[misc]
        # Of the probabilities alone: a product with no columns costs nothing.
        _, weights = super()._apply_scores(scores, value[..., :0], scores_mask, training=False)  # type: ignore[misc]
        weights = self.drop_probabilities(weights)
        return keras.ops.matmul(weights, value), weights

    def drop_probabilities(self, weights: Any) -> Any:
        """Drop probabilities, (batch, target length, source length), by the mask of the call."""
        return active.dropout(weights, check_probability(self.dropout, "dropout"), self.mask_key(), True)


@keras.saving.register_keras_serializable(package="thinned")
class Attention(Scored, keras.layers.Attention):  # type: ignore[misc]
    """Equivalent to `keras.layers.Attention`, of which it is a subclass.

    Args:
        use_scale: multiply the scores by a weight.
        score_mode: "dot" or "concat".
        dropout: drop probability of the probabilities, in [0, 1].
        seed: as in `Dropout`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: `dropout must be a real number, got …`, and as `Dropout` for the seed.
        ValueError: `dropout must be in [0, 1], got …`, and as `Dropout` for the seed.

    Source:
        Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015;
        CONTRACT.md, section 3.

    Example:
        >>> layer = Attention(dropout=0.5, seed=1, name="attention")
        >>> x = keras.ops.ones((1, 3, 8))
        >>> layer([x, x], training=True).shape == (1, 3, 8)
        True
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        dropout = check_probability(dropout, "dropout")
        super().__init__(use_scale, score_mode, dropout, held(seed), **kwargs)
        self.settle(seed)


@keras.saving.register_keras_serializable(package="thinned")
class AdditiveAttention(Scored, keras.layers.AdditiveAttention):  # type: ignore[misc]
    """Equivalent to `keras.layers.AdditiveAttention`, of which it is a subclass.

    Args:
        use_scale: multiply each feature by a weight.
        dropout: drop probability of the probabilities, in [0, 1].
        seed: as in `Dropout`.
        **kwargs: as `Attention`.

    Raises:
        TypeError: as `Attention`.
        ValueError: as `Attention`.

    Source:
        Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015.

    Example:
        >>> layer = AdditiveAttention(dropout=0.5, seed=1, name="attention")
        >>> x = keras.ops.ones((1, 3, 8))
        >>> layer([x, x], training=True).shape == (1, 3, 8)
        True
    """

    def __init__(
        self, use_scale: bool = True, dropout: float = 0.0, seed: Seed = None, **kwargs: Any
    ) -> None:
        dropout = check_probability(dropout, "dropout")
        super().__init__(use_scale, dropout, seed=held(seed), **kwargs)
        self.settle(seed)
