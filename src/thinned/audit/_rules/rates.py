"""These rules are about rates: a keep probability in p's place, and numbers that are no probability."""

from __future__ import annotations

import re
from collections.abc import Iterable

import libcst as cst

from thinned.audit._finding import Edit, Fix
from thinned.audit._names import KERAS_RNNS, RATES, TF1_FUNCTION, TF_FUNCTION
from thinned.audit._nodes import UNKNOWN, argument, is_drop, is_keep, number
from thinned.audit._rule import rule
from thinned.audit._source import Found, Source

_WRAPPERS = frozenset(
    {
        "tensorflow.compat.v1.nn.rnn_cell.DropoutWrapper",
        "tensorflow.nn.rnn_cell.DropoutWrapper",
        "tensorflow.contrib.rnn.DropoutWrapper",
        "tensorflow.nn.RNNCellDropoutWrapper",
    }
)
_TF1 = re.compile(
    r"\btf\.(placeholder|Session|InteractiveSession|get_variable|app\.|flags|layers\.|contrib|variable_scope|"
    r"estimator|logging|losses\.|summary\.(merge|scalar\(['\"])|global_variables|truncated_normal|"
    r"random_(normal|uniform)|nn\.(rnn_cell|bidirectional_dynamic_rnn|dynamic_rnn|xw_plus_b)|reset_default_graph|"
    r"train\.(\w+Optimizer|Saver|get_|init))|tensorflow\.contrib"
)


def _complement(node: cst.BaseExpression, source: Source) -> Fix:
    return Fix("pass 1 minus it", (source.replace(node, f"1 - {source.code(node)}"),), safe=False)


@rule(
    "THN107",
    "keep-probability-as-drop-probability",
    r"(?i)dropout\w*\s*(\((?:[^()]|\([^()]*\))*?keep|as\b)",
)
def _keep_as_drop(source: Source) -> Iterable[Found]:
    """A probability to keep stands where the probability to drop belongs: 0.9 kept becomes 0.9 dropped."""
    for place, name in source.called(frozenset(RATES)):
        given = argument(place.node, *RATES[name])
        if name == TF_FUNCTION and argument(place.node, None, "rate") is None and _TF1.search(source.text):
            continue  # TensorFlow 1 takes the probability to keep there
        if isinstance(given, cst.BaseExpression) and is_keep(given):
            yield Found(
                given,
                f"{source.code(given)} is a probability to keep, by its name; {RATES[name][1]} is to drop.",
                f"Pass 1 - {source.code(given)}.",
                _complement(given, source),
            )


@rule("THN113", "rate-out-of-range", r"(?i)dropout\w*\s*\([^)]{0,80}?(-\s*[\d.]|\b[1-9]\d*\b)")
def _out_of_range(source: Source) -> Iterable[Found]:
    """A drop probability is between 0 and 1; 50 is often meant in per cent."""
    for place, name in source.called(frozenset(RATES)):
        given = argument(place.node, *RATES[name])
        value = number(given)
        if value is UNKNOWN or isinstance(value, bool) or 0 <= value <= 1:
            continue
        fix = None
        if 1 < value <= 100:
            fix = Fix("take it for per cent", (source.replace(given, f"{value / 100:g}"),), safe=False)
        yield Found(
            given,
            f"A drop probability of {source.code(given)} is not in [0, 1].",
            "Pass a number between 0 and 1.",
            fix,
        )


@rule("THN114", "drops-everything", r"(?i)dropout\w*\s*\([^)]{0,80}?(\b1\b|\bTrue\b)")
def _everything(source: Source) -> Iterable[Found]:
    """A drop probability of 1 drops everything.

    Where the number was a probability to keep, 1 dropped nothing.
    """
    for place, name in source.called(frozenset(RATES)):
        given = argument(place.node, *RATES[name])
        value = number(given)
        if value is True or (value is not UNKNOWN and value is not False and value == 1):
            what = (
                f"{RATES[name][1]}=True is a drop probability of 1: everything is dropped."
                if value is True
                else "A drop probability of 1 drops everything; a keep probability of 1 dropped nothing."
            )
            yield Found(given, what, "Pass the probability to drop, 0 for none.")


@rule("THN201", "keep-prob-in-tensorflow-2", r"keep_prob\s*=", r"tensorflow", default=False)
def _keep_prob(source: Source) -> Iterable[Found]:
    """`tf.nn.dropout` of TensorFlow 2 has no `keep_prob`.

    Off by default: code that runs is for TensorFlow 1, as the call fails in TensorFlow 2.
    """
    if _TF1.search(source.text):
        return  # code for TensorFlow 1, where the name is right
    for place, _ in source.called(TF_FUNCTION):
        for one in place.node.args:
            if one.keyword is not None and one.keyword.value == "keep_prob":
                start, _ = source.range(one.keyword)
                _, end = source.extent(one.value)
                edit = Edit(start, end, f"rate=1 - ({source.code(one.value)})")
                yield Found(
                    place.node,
                    "tf.nn.dropout of TensorFlow 2 has no keep_prob: it takes rate, the probability to drop.",
                    "Pass rate=1 - keep_prob.",
                    Fix("pass rate=1 - keep_prob", (edit,), safe=True),
                )


@rule(
    "THN204",
    "rnn-rate-is-clipped",
    r"dropout\s*=\s*(-|\d)",
    r"\b(LSTM|GRU|SimpleRNN|ConvLSTM)",
    r"keras|tensorflow",
)
def _clipped(source: Source) -> Iterable[Found]:
    """Keras clips the rates of its recurrent layers to [0, 1] without a word."""
    for place, _ in source.called(KERAS_RNNS):
        for keyword in ("dropout", "recurrent_dropout"):
            given = argument(place.node, None, keyword)
            value = number(given)
            if value is not UNKNOWN and not isinstance(value, bool) and not 0 <= value < 1:
                yield Found(
                    given,
                    f"Keras clips {keyword}={source.code(given)} to [0, 1] without a word.",
                    "Pass a number from 0 to below 1.",
                )


@rule("THN211", "drop-probability-as-keep-prob", r"(?i)dropout(wrapper)?\s*\(", r"tensorflow")
def _drop_as_keep(source: Source) -> Iterable[Found]:
    """A probability to drop stands where TensorFlow 1 takes the probability to keep."""
    for place, name in source.called(_WRAPPERS, TF1_FUNCTION):
        keywords = (
            [(1, "keep_prob")]
            if name == TF1_FUNCTION
            else [(1, "input_keep_prob"), (2, "output_keep_prob"), (3, "state_keep_prob")]
        )
        for position, keyword in keywords:
            given = argument(place.node, position, keyword)
            if isinstance(given, cst.BaseExpression) and is_drop(given):
                yield Found(
                    given,
                    f"{source.code(given)} is a probability to drop, by its name; {keyword} is to keep.",
                    f"Pass 1 - {source.code(given)}.",
                    _complement(given, source),
                )


RULES = (_keep_as_drop, _out_of_range, _everything, _keep_prob, _clipped, _drop_as_keep)
