"""These rules are about orders of layers in which dropout does harm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import libcst as cst
from libcst import matchers as m

from thinned.audit._names import BATCH_NORMS
from thinned.audit._nodes import dropped, last_word
from thinned.audit._rule import rule
from thinned.audit._sequence import Layer, sequences
from thinned.audit._source import Found, Place, Source

_ELEMENTWISE = {
    *(
        "ReLU",
        "ReLU6",
        "LeakyReLU",
        "PReLU",
        "ELU",
        "SELU",
        "CELU",
        "GELU",
        "SiLU",
        "Mish",
        "Tanh",
        "Sigmoid",
    ),
    *("Softplus", "Hardswish", "Hardtanh", "Identity", "Activation", "relu", "gelu", "silu", "tanh", "elu"),
}
_WEIGHTS = {
    *("Linear", "Conv1d", "Conv2d", "Conv3d", "Dense", "Conv1D", "Conv2D", "Conv3D", "Conv", "LazyLinear"),
}
_SOFTMAX = {"Softmax", "LogSoftmax", "softmax", "log_softmax"}
# Functions that take a network's outputs.
_LOSSES = frozenset(
    {
        *(
            f"torch.nn.functional.{name}"
            for name in (
                "cross_entropy",
                "log_softmax",
                "softmax",
                "nll_loss",
                "binary_cross_entropy_with_logits",
            )
        ),
        "torch.softmax",
        "torch.log_softmax",
        "jax.nn.softmax",
        "jax.nn.log_softmax",
        "optax.softmax_cross_entropy",
        "optax.softmax_cross_entropy_with_integer_labels",
        "tensorflow.nn.softmax",
        "tensorflow.nn.softmax_cross_entropy_with_logits",
        "tensorflow.nn.sparse_softmax_cross_entropy_with_logits",
    }
)
_RECTIFIED = {"torch.nn.ReLU", "torch.nn.ReLU6", "torch.nn.LeakyReLU", "torch.nn.GELU", "keras.layers.ReLU"}
_ALPHA = {"torch.nn.AlphaDropout", "torch.nn.FeatureAlphaDropout", "keras.layers.AlphaDropout"}
_CHANNELS = {
    *(
        "torch.nn.Dropout2d",
        "torch.nn.Dropout3d",
        "keras.layers.SpatialDropout2D",
        "keras.layers.SpatialDropout3D",
    ),
}
_FLAT = {"torch.nn.Flatten", "torch.nn.Linear", "keras.layers.Flatten", "keras.layers.GlobalAveragePooling2D"}


def _passes(layer: Layer) -> bool:
    return layer.word in _ELEMENTWISE


def _next(layers: Sequence[Layer], begin: int, through: Iterable[str]) -> Layer | None:
    """The first layer from here on that is none of these."""
    words = set(through)
    return next((layer for layer in layers[begin:] if layer.word not in words), None)


def _is_softmax(layer: Layer) -> bool:
    if layer.word == "Activation" and isinstance(layer.made, cst.Call) and layer.made.args:
        return bool(
            m.matches(layer.made.args[0].value, m.SimpleString(value=m.MatchIfTrue(lambda s: "softmax" in s)))
        )
    # What is not returned may be the weights of an attention.
    return (layer.word in _SOFTMAX and (layer.last or "log" in layer.word.lower())) or (
        layer.name in _LOSSES and "softmax" not in layer.word
    )


@rule(
    "THN110",
    "dropout-of-the-outputs",
    r"(?is)(softmax|cross_entropy\w*|nll_loss)\s*\(\s*(\w+\s*=\s*)?[\w.]*(drop|\()|drop\w*\s*\(.{0,120}?softmax",
)
def _outputs(source: Source) -> Iterable[Found]:
    """Dropout between the last layer and the softmax sets logits to 0.

    A class that was certain becomes likely or not at random, in training only.
    """
    what = (
        "Dropout between the last layer and the softmax or loss sets logits to 0: classes are lost at random."
    )
    remedy = "Put it in front of the last layer."
    for layers in sequences(source):
        for before, layer, after in zip(layers, layers[1:], layers[2:], strict=False):
            if layer.drops and before.word in _WEIGHTS and _is_softmax(after):
                yield Found(layer.node, what, remedy)
    for place, _ in source.called(_LOSSES):
        first = place.node.args[0].value if place.node.args else None
        inner = dropped(first, place, source)
        if inner is not None and isinstance(inner, cst.Call) and _makes_logits(inner, place, source):
            yield Found(first, what, remedy)  # type: ignore[arg-type]


def _makes_logits(call: cst.Call, place: Place, source: Source) -> bool:
    """Tells whether a call's name says that it is a network's last layer, and no attention's scores."""
    return bool(
        re.search(
            r"(?i)^(fc\d*|linear\d*|head|classifier|out|output|dense\d*|lm_head|proj_out)$",
            last_word(call.func),
        )
    )


@rule(
    "THN111",
    "dropout-twice-in-a-row",
    r"(?i)drop\w*\s*\(\s*[\w.]*drop\w*\s*\(|dropout\w*\s*\([^()]*\)[\s,()'\"\w.]*?\bdropout"
    r"|drop\w*\s*\([^\n]*\n(\s*(#[^\n]*)?\n)*([ \t]*\w+ *=|[ \t]*return\b)[^\n]*?drop\w*\s*\(",
)
def _twice(source: Source) -> Iterable[Found]:
    """Two dropouts in a row are one with the larger rate 1 - (1 - p)(1 - q)."""
    what = "Two dropouts in a row are one with a larger rate, 1 - (1 - p)(1 - q)."
    remedy = "Keep one of them, with the rate that is meant."
    for layers in sequences(source):
        for first, second in pairwise(layers):
            if first.drops and second.drops and first.alike(second):
                yield Found(second.node, what, remedy)
    for place, _ in source.calls:
        inner = dropped(place.node, place, source)
        if inner is not None and dropped(inner, place, source) is not None:
            yield Found(place.node, what, remedy)


@rule("THN112", "dropout-before-batch-norm", r"(?is)drop\w*\s*\(.{0,400}?(\bbn|norm)", r"(?i)batch_?norm")
def _before_batch_norm(source: Source) -> Iterable[Found]:
    """Batch normalisation that follows dropout keeps the variance of training.

    Which is larger than that of evaluation.
    """
    for layers in sequences(source):
        for index, layer in enumerate(layers):
            if not layer.drops or layer.name in _ALPHA:
                continue
            after = _next(layers, index + 1, _ELEMENTWISE | _WEIGHTS)
            if after is not None and after.name in BATCH_NORMS:
                yield Found(
                    layer.node,
                    "Batch normalisation behind dropout learns the variance of training, which is larger "
                    "than that of evaluation.",
                    "Put dropout behind the last batch normalisation.",
                )


@rule("THN121", "alpha-dropout-without-selu", r"AlphaDropout\s*(\(|as\b)")
def _without_selu(source: Source) -> Iterable[Found]:
    """Alpha dropout keeps mean and variance for inputs that SELU has made normal.

    Behind another activation it adds a negative value for nothing.
    """
    for layers in sequences(source):
        for before, layer in pairwise(layers):
            if layer.name in _ALPHA and before.name in _RECTIFIED:
                yield Found(
                    layer.node,
                    f"Alpha dropout keeps mean and variance behind SELU; this stands behind {before.word}.",
                    "Use Dropout, or SELU.",
                )


@rule(
    "THN123",
    "channel-dropout-of-flat-inputs",
    r"Dropout[23][dD]\s*(\(|as\b)",
    r"Linear|Flatten|AveragePooling",
)
def _flat_channels(source: Source) -> Iterable[Found]:
    """Channel dropout behind a linear layer finds no channels: it drops whole samples, or fails."""
    for layers in sequences(source):
        for index, layer in enumerate(layers):
            if layer.name not in _CHANNELS:
                continue
            before = next((one for one in reversed(layers[:index]) if not _passes(one)), None)
            if before is not None and before.name in _FLAT:
                yield Found(
                    layer.node,
                    f"{layer.word} drops channels, and behind {before.word} there are none: it drops whole "
                    "samples, or fails.",
                    "Use Dropout.",
                )


RULES = (_outputs, _twice, _before_batch_norm, _without_selu, _flat_channels)
