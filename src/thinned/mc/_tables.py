"""A prediction is written here as a table, as text, and to a file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from thinned._installed import needs
from thinned.mc._statistics import Sampled, Statistics

_NAMES = tuple(field.name for field in fields(Statistics))
_ERROR = "standard_error."


def short(found: Sampled) -> str:
    """Writes the prediction on one line."""
    rows, outputs = found.mean.shape[0], found.mean.shape[1:]
    counts = _counts(found)
    kind = "classes" if found.predictive_entropy is not None else "values"
    held = "" if found.draws is None else ", draws kept"
    return f"Prediction({rows} inputs, {kind} of shape {outputs}, {counts} samples{held})"


def summary(found: Sampled) -> str:
    """Writes the prediction in some lines."""
    lines = [short(found)]
    for name in _NAMES:
        values = getattr(found, name)
        if values is None:
            continue
        line = f"  {name:<20} {_range(values)}"
        error = None if found.standard_error is None else getattr(found.standard_error, name)
        if error is not None and np.isfinite(error).any():
            line += f"   known to ± {np.nanmax(error):.2g}"
        lines.append(line)
    return "\n".join(lines)


def _range(values: Any) -> str:
    good = values[np.isfinite(values)]
    text = f"{good.min():.4g} … {good.max():.4g}" if good.size else "no number"
    wrong = values.size - good.size
    return text if not wrong else f"{text}, {wrong} NaN or infinite"


def _counts(found: Sampled) -> str:
    if found.samples is None or not len(found.samples):
        return "unknown"
    least, most = int(found.samples.min()), int(found.samples.max())
    return str(most) if least == most else f"{least} to {most}"


def to_pandas(found: Sampled) -> Any:
    """A data frame, one row for each input."""
    needs("Prediction.to_pandas", "pandas")
    import pandas  # type: ignore[import-untyped]

    columns: dict[str, Any] = {}
    for name in _NAMES:
        _put(columns, name, getattr(found, name))
        _put(columns, f"{name}_error", getattr(found.standard_error, name, None))
    if found.samples is not None:
        columns["samples"] = found.samples
    return pandas.DataFrame(columns)


def _put(columns: dict[str, Any], name: str, values: Any) -> None:
    if values is None:
        return
    if int(np.prod(values.shape[1:])) == 1:
        columns[name] = values.reshape(len(values))
        return
    for place in np.ndindex(values.shape[1:]):
        columns["_".join((name, *map(str, place)))] = values[(slice(None), *place)]


def save(found: Sampled, path: Any) -> None:
    """To an .npz file."""
    if Path(path).suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {path}")
    arrays = {name: getattr(found, name) for name in (*_NAMES, "samples", "draws")}
    arrays |= {f"{_ERROR}{name}": getattr(found.standard_error, name, None) for name in _NAMES}
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})


def load(path: Any) -> dict[str, Any]:
    """Its parts, from an .npz file."""
    with np.load(path, allow_pickle=False) as held:
        arrays = dict(held)
    unknown = set(arrays) - {*_NAMES, "samples", "draws"} - {f"{_ERROR}{name}" for name in _NAMES}
    if unknown or not {"mean", "std"} <= set(arrays):
        raise ValueError(f"{path} holds no prediction: its arrays are {', '.join(sorted(arrays)) or 'none'}")
    errors = {name: arrays.pop(f"{_ERROR}{name}") for name in _NAMES if f"{_ERROR}{name}" in arrays}
    return {**arrays, "standard_error": Statistics(**errors) if errors else None}
