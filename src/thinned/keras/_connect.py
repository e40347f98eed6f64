"""DropConnect drops the weights of a layer, not its inputs."""

from __future__ import annotations

from typing import Any

import keras

from thinned._arguments import UNUSED
from thinned.contract import check_probability
from thinned.keras._backend import active
from thinned.keras._site import Seed, Site, held


@keras.saving.register_keras_serializable(package="thinned")
class DropConnect(Site, keras.layers.Wrapper):  # type: ignore[misc]
    """Run a layer with its kernel dropped, by one mask for the batch.

    The kernel is trained and saved as it is: what a call uses is a dropped copy. Its gradient is 0 where it
    was dropped. The bias is not dropped, and a regularizer sees the whole kernel.

    Args:
        layer: a Keras layer with a weight called `kernel`, which changes no variable in a call: Dense,
            EinsumDense, Conv1D to 3D, transposed or depthwise. It may be built and trained already.
        rate: drop probability in [0, 1].
        seed: see `Dropout`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; when built, `DropConnect needs a layer with a kernel, got …`.

    Source:
        Wan, Zeiler, Zhang, Le Cun and Fergus, "Regularization of Neural Networks using DropConnect",
        ICML 2013. It evaluates by moments of the sum's distribution; this, as is usual, by its mean.

    Example:
        >>> layer = DropConnect(keras.layers.Dense(3), 0.5, seed=1, name="connect")
        >>> layer(keras.ops.ones((2, 4)), training=True).shape == (2, 3)
        True
    """

    def __init__(self, layer: Any, rate: float, seed: Seed = None, **kwargs: Any) -> None:
        rate = check_probability(rate, "rate")
        if isinstance(layer, keras.Layer):
            kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(held(seed))
        self.settle(seed)
        self.supports_masking = layer.supports_masking

    def build(self, input_shape: Any = None) -> None:
        """Build the layer, and see that it has a kernel."""
        super().build(input_shape)
        if not isinstance(getattr(self.layer, "kernel", None), keras.Variable):
            raise ValueError(
                f"DropConnect needs a layer with a kernel, got {self.layer!r}: Dense, EinsumDense or one of "
                "the Convs, neither quantized nor with LoRA"
            )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Run the layer, in training with a dropped copy of its kernel."""
        rate = check_probability(self.rate, "rate")
        kernel = self.layer.kernel
        key = self.mask_key() if training and rate else UNUSED
        dropped = active.dropout(kernel.value, rate, key, bool(training))
        # All variables, since a scope hides the one around it, which has the values under `stateless_call`.
        before = [(v, dropped if v is kernel else v.value) for v in self.layer.variables]
        with keras.StatelessScope(before, collect_losses=True) as scope:
            outputs = self.layer(inputs)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs

    def rate_now(self) -> float:
        """The rate, 0 where nothing is dropped."""
        return self.rate

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The layer's."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """With the layer, rate and seed."""
        return {**super().get_config(), "rate": self.rate}
