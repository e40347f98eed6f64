"""This file has one spelling for each name of the frameworks, and says which argument is its p."""

from __future__ import annotations

from typing import Final

# Spellings of one package; the longest that fits is taken.
_SPELLINGS: Final = {
    "tensorflow.compat.v2.keras": "keras",
    "tensorflow.compat.v2": "tensorflow",
    "tensorflow.compat.v1.keras": "keras",
    "tensorflow.python.keras": "keras",
    "tensorflow.keras": "keras",
    "tf_keras": "keras",
    "keras.src": "keras",
    "flax.experimental.nnx": "flax.nnx",
}
# Modules inside a package whose names are those of the package.
_INNER: Final = (
    "torch.nn.modules.",
    "keras.layers.",
    "keras.models.",
    "keras.engine.",
    "flax.linen.",
    "equinox.nn.",
)
_OUTER: Final = ("torch.nn", "keras.layers", "keras", "keras", "flax.linen", "equinox.nn")

TORCH_FUNCTIONS: Final = frozenset(
    f"torch.nn.functional.{name}" for name in ("dropout", "dropout1d", "dropout2d", "dropout3d")
)
TORCH_ALPHA_FUNCTIONS: Final = frozenset(
    f"torch.nn.functional.{name}" for name in ("alpha_dropout", "feature_alpha_dropout")
)
TORCH_LAYERS: Final = frozenset(
    f"torch.nn.{name}"
    for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
)
KERAS_LAYERS: Final = frozenset(
    f"keras.layers.{name}"
    for name in (
        *("Dropout", "AlphaDropout", "GaussianDropout"),
        *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    )
)
FLAX_LAYERS: Final = frozenset({"flax.linen.Dropout", "flax.nnx.Dropout"})
LAYERS: Final = TORCH_LAYERS | KERAS_LAYERS | FLAX_LAYERS | {"equinox.nn.Dropout"}
TF_FUNCTION: Final = "tensorflow.nn.dropout"
TF1_FUNCTION: Final = "tensorflow.compat.v1.nn.dropout"
TF1_LAYER_FUNCTION: Final = "tensorflow.compat.v1.layers.dropout"
HAIKU_FUNCTION: Final = "haiku.dropout"

# Position and keyword of the drop probability.
RATES: Final[dict[str, tuple[int, str]]] = {
    **dict.fromkeys(TORCH_FUNCTIONS | TORCH_ALPHA_FUNCTIONS, (1, "p")),
    **dict.fromkeys(TORCH_LAYERS | {"equinox.nn.Dropout"}, (0, "p")),
    **dict.fromkeys(KERAS_LAYERS | FLAX_LAYERS, (0, "rate")),
    TF_FUNCTION: (1, "rate"),
    TF1_LAYER_FUNCTION: (1, "rate"),
    HAIKU_FUNCTION: (1, "rate"),
}
# Functions that drop what they are given, and where that stands.
FUNCTIONS: Final[dict[str, int]] = {
    **dict.fromkeys(TORCH_FUNCTIONS | TORCH_ALPHA_FUNCTIONS, 0),
    TF_FUNCTION: 0,
    TF1_FUNCTION: 0,
    TF1_LAYER_FUNCTION: 0,
    HAIKU_FUNCTION: 2,
}
SEQUENTIALS: Final = frozenset(
    {"torch.nn.Sequential", "keras.Sequential", "flax.linen.Sequential", "flax.nnx.Sequential"}
)
BATCH_NORMS: Final = frozenset(
    {
        *(f"torch.nn.BatchNorm{n}d" for n in (1, 2, 3)),
        "torch.nn.SyncBatchNorm",
        "keras.layers.BatchNormalization",
        "flax.linen.BatchNorm",
        "flax.nnx.BatchNorm",
    }
)

TORCH_RNNS: Final = frozenset({"torch.nn.LSTM", "torch.nn.GRU", "torch.nn.RNN"})
KERAS_RNNS: Final = frozenset(
    f"keras.layers.{name}"
    for name in (
        *("LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell"),
        *("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
    )
)
ATTENTION: Final = "torch.nn.functional.scaled_dot_product_attention"
MULTI_HEAD: Final = "torch.nn.functional.multi_head_attention_forward"
# What `from torch.nn import *` and its like are known to bring.
STARRED: Final = frozenset(
    {
        *(*RATES, *FUNCTIONS, *SEQUENTIALS, *BATCH_NORMS, *TORCH_RNNS, *KERAS_RNNS, ATTENTION, MULTI_HEAD),
        *("torch.nn.Module", "torch.nn.functional", "torch.nn", "keras.Model", "keras.layers.Layer"),
        *("keras.layers", "flax.linen.Module", "flax.nnx.Module", "equinox.Module"),
    }
)


def canonical(name: str) -> str:
    """Returns one spelling for a qualified name.

    Example:
        >>> canonical("tensorflow.keras.layers.Dropout"), canonical("torch.nn.modules.dropout.Dropout")
        ('keras.layers.Dropout', 'torch.nn.Dropout')
    """
    for spelling, short in _SPELLINGS.items():
        if name == spelling or name.startswith(spelling + "."):
            name = short + name[len(spelling) :]
            break
    for inner, outer in zip(_INNER, _OUTER, strict=True):
        if name.startswith(inner):
            last = name.rpartition(".")[2]
            if inner != "torch.nn.modules." and "." not in name[len(inner) :]:
                break
            if last[:1].isupper() or last == "dot_product_attention":
                name = f"{outer}.{last}"
            break
    return "keras.Sequential" if name == "keras.models.Sequential" else name
