"""A Keras model gets keys here, and a callback gives a resumed run the masks of the whole run."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any, TypeVar

import keras
import numpy as np

from thinned.contract import Key, check_integer
from thinned.keras import _compat
from thinned.keras._backend import active
from thinned.keras._site import Seeded

Model = TypeVar("Model", bound=keras.Model)


def keyed(model: Model, seed: int | Key) -> Model:
    """Give every layer of ours in a model its key: call n of a layer has `Key(seed).fold(name).fold(n)`.

    Args:
        model: a Keras model; sites are the layers of `thinned.keras` in it, each by its `name`.
        seed: integer in [0, 2^64), or a Key, which then stands for Key(seed).

    Returns:
        The model itself, whose layers count their calls from 0 again. A train function that was compiled is
        made anew.

    Raises:
        TypeError: `seed must be an integer, got …`.
        ValueError: `model has no layer of thinned.keras …`; `… have one name, and so one mask: …`.

    Source:
        CONTRACT.md, section 5.

    Example:
        >>> import keras, numpy as np, thinned
        >>> model = keyed(keras.Sequential([thinned.keras.Dropout(0.5, name="drop")]), seed=7)
        >>> y = keras.ops.convert_to_numpy(model(np.ones((1, 8), "float32"), training=True))
        >>> mask = thinned.keep_mask((1, 8), 0.5, key=thinned.Key(7).fold("drop").fold(0))
        >>> bool(((y != 0) == mask).all())
        True
    """
    root = seed if isinstance(seed, Key) else Key(seed)
    sites = _sites(model)
    twice = [name for name, count in Counter(site.mask_name for site in sites).items() if count > 1]
    if twice:
        raise ValueError(f"layers have one name, and so one mask: {', '.join(twice)}; pass name= to each")
    for site in sites:
        site.__dict__["seed"] = root.fold(site.mask_name)
    _count_from(sites, 0)
    if getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)
    return model


class Keyed(keras.callbacks.Callback):  # type: ignore[misc]
    """Key a model when `fit` begins, and set the number of each layer's call when an epoch does.

    The number is that of batches that were trained, `optimizer.iterations` with every part of accumulated
    gradients counted, times `calls`. It is in a checkpoint with the optimizer, so that a run resumed from one
    has the masks of the run that never stopped. Validation draws nothing.

    Args:
        seed: as of `keyed`; None leaves the layers' own seeds.
        calls: how many masks a layer draws in one batch: a number, or a dictionary by layers' names for those
            that draw more: layers called more than once, and recurrent ones, which draw one a gate, `GRU` 3
            and `LSTM` 4 for `dropout`, and as many for `recurrent_dropout`.

    Raises:
        ValueError: when an epoch ends: `… drew … masks in … batches: pass calls=…`.

    Warns:
        UserWarning: `epoch … begins and the optimizer has counted no batch: …`, for `initial_epoch` without
            the saved optimizer.

    Example:
        >>> callback = Keyed(seed=7)
        >>> # model.fit(x, y, callbacks=[callback])
    """

    def __init__(self, seed: int | Key | None, calls: int | dict[str, int] = 1) -> None:
        super().__init__()
        self.seed, self.calls, self._before = seed, calls, 0
        for count in calls.values() if isinstance(calls, dict) else [calls]:
            if check_integer("calls", count) < 1:
                raise ValueError(f"calls must be at least 1, got {count}")

    def on_train_begin(self, logs: Any = None) -> None:
        """Key the model."""
        if self.seed is not None:
            keyed(self.model, self.seed)
        _sites(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the numbers, before any state of the epoch is read."""
        self._before = batches = _compat.batches_of(self.model.optimizer)
        if epoch and not batches:
            warnings.warn(
                f"epoch {epoch} begins and the optimizer has counted no batch: the masks are those of "
                "a run's start. Load the optimizer with the model, by keras.models.load_model",
                stacklevel=2,
            )
        for site in _sites(self.model):
            _count_from([site], batches * self._calls(site))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """See whether each layer was called as often as was said."""
        batches = _compat.batches_of(self.model.optimizer)
        for site in _sites(self.model):
            found = int(active.numbers(site.seed_generator.state.value)[1])
            drawn, trained = found - self._before * self._calls(site), batches - self._before
            if drawn != trained * self._calls(site) and trained:
                raise ValueError(
                    f"{site.mask_name} drew {drawn} masks in {trained} batches: pass calls="
                    f"{{{site.mask_name!r}: {drawn / trained:g}}}, or a resumed run would have other masks"
                )

    def _calls(self, site: Any) -> int:
        return self.calls.get(site.mask_name, 1) if isinstance(self.calls, dict) else self.calls


def _sites(model: Any) -> list[Any]:
    found = [one for one in _compat.layers_of(model)() if isinstance(one, Seeded) and _drops(one)]
    if not found:
        raise ValueError("model has no layer of thinned.keras that drops: put ours where keras.layers' are")
    return found


def _drops(layer: Any) -> bool:
    return getattr(layer, "seed_generator", None) is not None


def _count_from(sites: list[Any], number: int) -> None:
    for site in sites:
        state = site.seed_generator.state
        now = active.numbers(state.value)
        active.assign(state, np.array([now[0], number % 2**32]).astype(now.dtype))
