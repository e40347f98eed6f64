"""Monte Carlo prediction is a step of a Ray Data pipeline here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
import torch
from ray.data import ActorPoolStrategy, Dataset

from thinned._arguments import check_key
from thinned.contract import Key
from thinned.mc._collect import check_at_least_1, check_samples
from thinned.mc._statistics import Outputs, check_outputs
from thinned.mc.ray import _columns
from thinned.mc.ray._worker import Plan, Worker
from thinned.mc.torch._training_flags import Also
from thinned.torch import _key

BATCH = 256


def predict(
    model: torch.nn.Module | Callable[[], torch.nn.Module],
    dataset: Dataset,
    *,
    index: str,
    inputs: str | Sequence[str] | Mapping[str, str] = "x",
    samples: int = 100,
    key: Key | None = None,
    outputs: Outputs | None = None,
    shared: bool = False,
    batch_size: int = BATCH,
    memory: int = 2**30,
    tolerance: float | None = None,
    also: Also = (),
    keep_columns: Sequence[str] = (),
    workers: int | tuple[int, int] | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Dataset:
    """Average many thinned networks for each row of a dataset, as `thinned.mc.predict` does, on many workers.

    A row's samples follow from the key and its index alone. So do its bits: each row is computed in a chunk
    of `batch_size`, in the slot that its index says, whatever else is in it. Neither the number of workers,
    nor the blocks, nor their order, nor a worker that died and was replaced can be seen in the result.

    Args:
        model: a module, put into Ray's object store once, with its parameters as they are at this call; or a
            function without arguments that makes one, called once by each worker, for what is too large to
            send or cannot be pickled. Each worker traces it once for inputs of each shape.
        dataset: of Ray Data; one row an input.
        index: the column with the number of each row's input in the whole: integers in [0, 2^60), each once.
            `read` and `numbered` make one. It is a column of the result.
        inputs: the column that is the model's argument; several for its positional arguments; a mapping from
            keyword arguments to columns. A row has a number or an array of any shape, not always the same.
        samples: as in `thinned.mc.predict`.
        key: as there. Without one, one is drawn in this call, so that the dataset is the same whenever Ray
            computes it, or a part of it again.
        outputs: as there; None takes values without a warning, as workers compute them.
        shared: as there.
        batch_size: rows in a chunk, at least 1. What is missing in one is filled up, for equal bits: not much
            larger than the dataset's blocks is best. Outputs are equal to rounding with another size.
        memory: bytes that the computation may take in each worker.
        tolerance: as there.
        also: as there.
        keep_columns: columns of the dataset that the result shall have too, labels say.
        workers: how many processes; (least, most) for as many as are worth it; as many as the cluster has
            room for if None.
        num_cpus: of each worker, and threads that it computes with: outputs are equal to the bit for equal
            numbers of them, on machines with equal processors.
        num_gpus: of each worker; the model is moved to the one it gets.

    Returns:
        A dataset that is computed when it is consumed, by `write_parquet` say. A row has the index, `mean`,
        `std`, with classes `predictive_entropy`, `mutual_information` and `variation_ratio`, the standard
        error of each (`mean_standard_error`, …), and `samples`. Rows come in any order: sort them if need be.

    Raises:
        TypeError: `model must be a torch.nn.Module or a function that makes one, got …`.
        ValueError: `the dataset has no column …`; `samples must be at least 2, got …`; `workers must be …`;
            `… would be two columns …`. While it is computed, what the model or `thinned.mc.predict` raises
            comes as Ray's `UserCodeException`, whose text has it; among these is `SilentError`, where nothing
            in the model drew. Whether anything spread `check_spread` says, when all is there.

    Source:
        CONTRACT.md, section 5; Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Example:
        >>> import ray, thinned.mc.ray, torch  # doctest: +SKIP
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
        >>> data = thinned.mc.ray.read("inputs.parquet")  # doctest: +SKIP
        >>> found = thinned.mc.ray.predict(model, data, index="index", workers=8)  # doctest: +SKIP
        >>> found.write_parquet("predictions")  # doctest: +SKIP
    """
    plan = Plan(
        inputs=_checked(inputs),
        index=index,
        samples=samples,
        key=Key(*_key.as_words(None)) if key is None else check_key(key),
        outputs=check_outputs(outputs),
        shared=shared,
        batch_size=check_at_least_1("batch_size", batch_size),
        memory=check_at_least_1("memory", memory),
        tolerance=tolerance,
        also=(also,) if isinstance(also, (str, type)) else tuple(also),
        keep_columns=tuple(keep_columns),
        threads=max(1, int(num_cpus)),
        device="cuda" if num_gpus else None,
    )
    check_samples(samples, tolerance)
    _check_columns(plan, dataset)
    return dataset.map_batches(
        Worker,
        fn_constructor_args=(plan, _sent(model)),
        batch_size=plan.batch_size,
        batch_format="numpy",
        compute=_pool(workers),
        num_cpus=num_cpus,
        num_gpus=num_gpus or None,
    )


class _Stored:
    """A model in Ray's object store, of which each machine takes one copy."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.place = ray.put(model)

    def __call__(self) -> Any:
        return ray.get(self.place)


def _sent(model: Any) -> Callable[[], Any]:
    if isinstance(model, torch.nn.Module):
        return _Stored(model)
    if not callable(model):
        raise TypeError(
            f"model must be a torch.nn.Module or a function that makes one, got {type(model).__name__}"
        )
    return model  # type: ignore[no-any-return]


def _checked(inputs: Any) -> _columns.Inputs:
    found = (
        inputs if isinstance(inputs, str) else dict(inputs) if isinstance(inputs, Mapping) else tuple(inputs)
    )
    names = _columns.names_of(found)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"inputs must name at least one column, got {inputs!r}")
    return found


def _check_columns(plan: Plan, dataset: Dataset) -> None:
    made = [*_columns.STATISTICS, *(f"{name}_standard_error" for name in _columns.STATISTICS), "samples"]
    result = [plan.index, *plan.keep_columns, *made]
    twice = sorted({name for name in result if result.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} would be two columns of the result: rename the dataset's")
    known = dataset.columns(fetch_if_missing=False)
    if known is not None:
        _columns.check_known([*_columns.names_of(plan.inputs), plan.index, *plan.keep_columns], known)


def _pool(workers: Any) -> ActorPoolStrategy:
    if workers is None:
        return ActorPoolStrategy()
    least, most = workers if isinstance(workers, (tuple, list)) and len(workers) == 2 else (workers, workers)
    if not all(isinstance(one, int) for one in (least, most)) or not 1 <= least <= most:
        raise ValueError(f"workers must be a number from 1, or a pair (least, most), got {workers!r}")
    return ActorPoolStrategy(min_size=least, max_size=most)
