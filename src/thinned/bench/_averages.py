"""This row compares the averages experiment with its draws written in NumPy by hand."""

from __future__ import annotations

from thinned import averages, get_num_threads
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, alternate
from thinned.bench._verdict import at_least

# A round, keep rate and thread: two of the experiment's blocks. A draw costs the same among more of them.
_MASKS = 64
_PLAIN_DRAWS = 1  # a round and keep rate


def _measure(settings: Settings) -> Result:
    size = settings.size(averages.SIZE)
    masks = max(settings.size(_MASKS * get_num_threads()), 2)
    dropping = tuple(keep for keep in averages.KEEP if keep < 1)

    def ours(keep: tuple[float, ...]) -> float:
        return averages.run(size, masks, keep).seconds / (masks * len(keep))

    ours(averages.KEEP)
    found = alternate(
        {
            "plain NumPy": lambda: averages.time_plain_loop(size, averages.KEEP, 0, _PLAIN_DRAWS),
            "thinned": lambda: ours(averages.KEEP),
            "thinned, without keep rate 1": lambda: ours(dropping),
        },
        settings.repeats,
    )
    return result(
        found,
        found.figure("plain NumPy", "thinned", at_least(20)),
        found.figure("plain NumPy", "thinned, without keep rate 1"),
    )


ROWS = (Row("averages experiment, 10^6 elements, a draw", _measure),)
