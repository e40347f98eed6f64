"""These functions drop edges, nodes and messages of graphs, by their numbers in the whole graph."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from thinned._arguments import requires_training
from thinned._position import check_numbers
from thinned.contract import check_integer
from thinned.jax import _key, _numbers, _philox, _rate
from thinned.jax._dropout import check_dtype, check_static, dropout
from thinned.jax._primitive import rounded
from thinned.jax._types import AnyKey


@requires_training
def drop_edge(
    edge_index: ArrayLike,
    p: ArrayLike,
    *,
    key: AnyKey,
    training: bool,
    num_nodes: int | None = None,
    undirected: bool = False,
    node_ids: ArrayLike | None = None,
) -> jax.Array:
    """Say which edges of a graph stay. An edge's position is source · num_nodes + target.

    In the static shapes of JAX edges are not taken out: multiply messages by the mask, or weights of edges.

    Args:
        edge_index: (2, E), integers: sources and targets; of jraph's graphs
            `jnp.stack([graph.senders, graph.receivers])`.
        p: as in `dropout`.
        key: of the mask, one of (num_nodes, num_nodes).
        training: True drops, False keeps all.
        num_nodes: of the whole graph. Without one, 2^31 stands for it.
        undirected: whether both directions of an edge have one decision.
        node_ids: of the whole graph, for each node of a mini-batch: edges are then counted by these.

    Returns:
        (E,), bool. No scale is applied.

    Raises:
        TypeError: `edge_index must be integers of shape (2, E), got …`; as `dropout`.
        ValueError: `p must be in [0, 1], got …`; `nodes must be numbers from …`.

    Source:
        Rong, Huang, Xu and Huang, "DropEdge", ICLR 2020.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> edges = jnp.array([[0, 0, 0, 0], [0, 1, 2, 3]])
        >>> drop_edge(edges, 0.5, key=thinned.Key(0), training=True, num_nodes=4).tolist()
        [True, False, True, True]
    """
    training = check_static(training)
    array: Any = jnp.asarray(edge_index)
    if array.ndim != 2 or array.shape[0] != 2 or not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"edge_index must be integers of shape (2, E), got {array.dtype} of shape {array.shape}"
        )
    if num_nodes is not None and check_integer("num_nodes", num_nodes) < 1:
        raise ValueError(f"num_nodes must be positive, got {num_nodes}")
    drop = _rate.threshold(p)
    words = _key.words(key)
    ids = None if node_ids is None else _ids("node_ids", node_ids)
    if ids is not None:
        _check_numbers("edge_index", array, ids.size, "the last of node_ids")
    ends = array if ids is None else ids[array]
    _check_numbers("nodes", ends, num_nodes)
    if not training:
        return jnp.ones(array.shape[1], bool)
    _key.spend(key)
    kept: jax.Array = _edges(ends, words, _rate.words(p, drop), num_nodes or 2**31, undirected)
    return kept


@_philox.wide
def _edges(ends: Any, key: Any, threshold: Any, whole: int, undirected: bool) -> Any:
    source, target = ends.astype(np.uint64)
    if undirected:
        source, target = jnp.minimum(source, target), jnp.maximum(source, target)
    position = source * np.uint64(whole) + target
    return _philox.at_least(_numbers.words_at(position, key), jnp.asarray(threshold))


@requires_training
def drop_node(
    x: ArrayLike, p: ArrayLike, *, key: AnyKey, training: bool, node_ids: ArrayLike | None = None
) -> jax.Array:
    """Drop whole nodes of a graph by their numbers, and multiply what is kept by 1/(1−p).

    Args:
        x: (V, …), features of nodes; float32, float64, float16 or bfloat16.
        p: as in `dropout`.
        key: of the mask, one of (nodes, 1).
        training: True drops, False evaluates to x itself.
        node_ids: (V,), numbers in the whole graph; 0 to V − 1 if not given.

    Returns:
        An array like x; dropped nodes are +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `p must be in [0, 1], got …`; `… ids of shape … do not fit …`.

    Source:
        Feng et al., "Graph Random Neural Networks for Semi-Supervised Learning on Graphs", NeurIPS 2020.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> ids = jnp.array([1, 0, 4])
        >>> drop_node(jnp.ones((3, 2)), 0.5, key=thinned.Key(0), training=True, node_ids=ids)[:, 0]
        Array([0., 2., 2.], dtype=float32)
    """
    return _by_ids(x, p, key, training, node_ids, shared=True)


@requires_training
def drop_message(
    x: ArrayLike, p: ArrayLike, *, key: AnyKey, training: bool, edge_ids: ArrayLike | None = None
) -> jax.Array:
    """Drop single elements of messages by the number of their edge, and multiply the others by 1/(1−p).

    Args:
        x: (E, F), messages; float32, float64, float16 or bfloat16.
        p: as in `dropout`.
        key: of the mask, one of (edges, F).
        training: True drops, False evaluates to x itself.
        edge_ids: (E,), numbers in the whole graph; 0 to E − 1 if not given, which is `dropout`.

    Returns:
        An array like x; what is dropped is +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `p must be in [0, 1], got …`; `… ids of shape … do not fit …`.

    Source:
        Fang et al., "DropMessage: Unifying Random Dropping for Graph Neural Networks", AAAI 2023.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> ids = jnp.array([4, 0])
        >>> drop_message(jnp.ones((2, 5)), 0.5, key=thinned.Key(0), training=True, edge_ids=ids)
        Array([[0., 0., 0., 0., 2.],
               [2., 0., 2., 2., 2.]], dtype=float32)
    """
    return _by_ids(x, p, key, training, edge_ids, shared=False)


def _by_ids(x: Any, p: Any, key: Any, training: Any, ids: Any, shared: bool) -> jax.Array:
    """Dropout of rows that stand elsewhere in a whole."""
    training = check_static(training)
    array: Any = jnp.asarray(x)
    check_dtype(array, "x")
    if not array.ndim:
        raise ValueError("x must have a dimension of nodes or edges, got shape ()")
    if ids is None:
        noise = (None, *(1,) * (array.ndim - 1)) if shared else None
        return dropout(x, p, key=key, training=training, noise_shape=noise)
    numbers = _ids("ids", ids)
    if numbers.shape != array.shape[:1]:
        raise ValueError(f"ids of shape {numbers.shape} do not fit x of shape {array.shape}")
    _check_numbers("ids", numbers)
    drop = _rate.threshold(p)
    words = _key.words(key)
    if not training:
        return array  # type: ignore[no-any-return]
    _key.spend(key)
    threshold = jnp.asarray(_rate.words(p, drop))
    kept = _rows(numbers, array.shape[1:], words, threshold, shared)
    wide = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
    value = rounded(array.astype(wide) * _rate.scale(threshold, wide), array.dtype)
    return jnp.where(kept, value, _rate.dropped(threshold, array.dtype))


@_philox.wide
def _rows(ids: Any, columns: tuple[int, ...], key: Any, threshold: Any, shared: bool) -> Any:
    inner = (1,) * len(columns) if shared else columns
    count = math.prod(inner)
    position = ids.astype(np.uint64).reshape(-1, *(1,) * len(inner)) * np.uint64(count)
    position = position + jnp.arange(count, dtype=np.uint64).reshape(inner)
    return _philox.at_least(_numbers.words_at(position, key), threshold)


def _ids(name: str, ids: Any) -> Any:
    array: Any = jnp.asarray(ids)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {array.dtype}: they are numbers in the whole, no mask")
    if array.ndim != 1:
        raise ValueError(f"{name} must be of one dimension, got shape {array.shape}")
    return array


def _check_numbers(name: str, numbers: Any, most: int | None = None, whole: str = "num_nodes - 1") -> None:
    """Refuse numbers outside the whole, where they are known: two of them would share a decision."""
    if isinstance(numbers, jax.core.Tracer) or not numbers.size:
        return
    known = np.asarray(numbers)  # inside a trace an operation of JAX's would be traced
    check_numbers(name, int(known.min()), int(known.max()), most, whole)
