"""These functions drop edges, nodes and messages of graphs, by their numbers in the whole graph."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from thinned._arguments import requires_training
from thinned.contract import check_integer
from thinned.tensorflow import _key, _philox, _plain, _rate
from thinned.tensorflow._dropout import check_input, check_rank, dropout, flag
from thinned.tensorflow._types import AnyKey, Flag, Scalar, Tensor, TensorLike, as_written


@as_written
@requires_training
def drop_edge(
    edge_index: TensorLike,
    p: Scalar,
    *,
    key: AnyKey,
    training: Flag,
    num_nodes: int | None = None,
    undirected: bool = False,
    node_ids: TensorLike | None = None,
) -> Tensor:
    """Say which edges of a graph stay. An edge's position is source · num_nodes + target.

    Args:
        edge_index: (2, E), integers: sources and targets; of a TF-GNN edge set
            `tf.stack([adjacency.source, adjacency.target])`.
        p: as in `dropout`.
        key: of the mask, one of (num_nodes, num_nodes).
        training: True drops, False keeps all; or a bool tensor of no dimension.
        num_nodes: of the whole graph. Without one, 2^31 stands for it.
        undirected: whether both directions of an edge have one decision.
        node_ids: of the whole graph, for each node of a mini-batch: edges are then counted by these.

    Returns:
        (E,), bool, for `tf.boolean_mask(edges, kept)`. No scale is applied.

    Raises:
        TypeError: `edge_index must be integers of shape (2, E), got …`; as `dropout`.
        ValueError: as `dropout`; `num_nodes must be positive, got …`.
        tf.errors.InvalidArgumentError: `nodes must be numbers from 0 to num_nodes - 1`.

    Source:
        Rong, Huang, Xu and Huang, "DropEdge", ICLR 2020.

    Example:
        >>> import tensorflow as tf, thinned
        >>> edges = tf.constant([[0, 0, 0, 0], [0, 1, 2, 3]])
        >>> drop_edge(edges, 0.5, key=thinned.Key(0), training=True, num_nodes=4).numpy()
        array([ True, False,  True,  True])
    """
    ends, training = tf.convert_to_tensor(edge_index), flag(training)
    if not ends.dtype.is_integer or ends.shape.rank != 2 or ends.shape[0] != 2:
        raise TypeError(
            f"edge_index must be integers of shape (2, E), got {ends.dtype.name} of shape {ends.shape}"
        )
    if num_nodes is not None and check_integer("num_nodes", num_nodes) < 1:
        raise ValueError(f"num_nodes must be positive, got {num_nodes}")
    drop, bits = _rate.drop_threshold(p), _key.check(key)
    if node_ids is not None:
        ids = _ids("node_ids", node_ids)
        ends = _within("edge_index", tf.cast(ends, tf.int64), tf.size(ids, tf.int64), "the last of node_ids")
        ends = tf.gather(ids, ends)
    ends = _within("nodes", tf.cast(ends, tf.int64), 2**31 if num_nodes is None else num_nodes)
    source, target = ends[0], ends[1]
    if undirected:
        source, target = tf.minimum(source, target), tf.maximum(source, target)
    everything = tf.ones_like(source, tf.bool)
    if training is False or (isinstance(drop, int) and drop == 0):
        return everything
    position = source * _philox.int64(2**31 if num_nodes is None else num_nodes) + target
    kept = _plain.scattered(bits, position, drop)
    return kept if training is True else tf.logical_or(kept, tf.logical_not(training))


@as_written
@requires_training
def drop_node(
    x: TensorLike, p: Scalar, *, key: AnyKey, training: Flag, node_ids: TensorLike | None = None
) -> Tensor:
    """Drop whole nodes of a graph by their numbers, and multiply what is kept by 1/(1−p).

    Args:
        x: (V, …), features of nodes, of a known number of dimensions.
        p: as in `dropout`.
        key: of the mask, one of (nodes, 1).
        training: as in `dropout`.
        node_ids: (V,), numbers in the whole graph; 0 to V − 1 if not given.

    Returns:
        A tensor like x; dropped nodes are +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`.

    Source:
        Feng et al., "Graph Random Neural Networks for Semi-Supervised Learning on Graphs", NeurIPS 2020.

    Example:
        >>> import tensorflow as tf, thinned
        >>> ids = tf.constant([1, 0, 4])
        >>> drop_node(tf.ones((3, 2)), 0.5, key=thinned.Key(0), training=True, node_ids=ids)[:, 0].numpy()
        array([0., 2., 2.], dtype=float32)
    """
    return _by_ids(x, p, key, training, node_ids, shared=True)


@as_written
@requires_training
def drop_message(
    x: TensorLike, p: Scalar, *, key: AnyKey, training: Flag, edge_ids: TensorLike | None = None
) -> Tensor:
    """Drop single elements of messages by the number of their edge, and multiply the others by 1/(1−p).

    Args:
        x: (E, F), messages; F is known where ids are given.
        p: as in `dropout`.
        key: of the mask, one of (edges, F).
        training: as in `dropout`.
        edge_ids: (E,), numbers in the whole graph; 0 to E − 1 if not given, which is `dropout`.

    Returns:
        A tensor like x; what is dropped is +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`.

    Source:
        Fang et al., "DropMessage: Unifying Random Dropping for Graph Neural Networks", AAAI 2023.

    Example:
        >>> import tensorflow as tf, thinned
        >>> ids = tf.constant([4, 0])
        >>> drop_message(tf.ones((2, 5)), 0.5, key=thinned.Key(0), training=True, edge_ids=ids).numpy()
        array([[0., 0., 0., 0., 2.],
               [2., 0., 2., 2., 2.]], dtype=float32)
    """
    return _by_ids(x, p, key, training, edge_ids, shared=False)


def _by_ids(x: Any, p: Any, key: Any, training: Any, ids: Any, shared: bool) -> Any:
    """Dropout of rows that stand elsewhere in a whole."""
    x, training = check_input(x), flag(training)
    if not check_rank(x):
        raise ValueError("x must have a dimension of nodes or edges, got shape ()")
    if ids is None:
        noise = (None, *(1,) * (x.shape.rank - 1)) if shared else None
        return dropout(x, p, key=key, training=training, noise_shape=noise)
    numbers = _ids("ids", ids)
    if not numbers.shape.is_compatible_with(x.shape[:1]):
        raise ValueError(f"ids of shape {numbers.shape} do not fit x of shape {x.shape}")
    drop, bits = _rate.drop_threshold(p), _key.check(key)
    if training is False or (isinstance(drop, int) and drop == 0):
        return x
    act, factor = _rate.effect(drop, training, True)
    sizes = tf.shape(x, tf.int64)
    known = x.shape[1:].is_fully_defined()
    inner = (1,) * (x.shape.rank - 1) if shared else tuple(x.shape[1:]) if known else sizes[1:]
    count = math.prod(inner) if shared or known else tf.reduce_prod(inner)
    fits = tf.debugging.Assert(
        tf.equal(tf.size(numbers, tf.int64), sizes[0]),
        ["ids do not fit x, got", tf.shape(numbers), sizes],
    )
    with tf.control_dependencies([fits]):
        numbers = tf.identity(numbers)
    rows = _within("ids", tf.cast(numbers, tf.int64), None) * count
    position = rows[:, None] + tf.range(_philox.int64(count))
    # By x's rows: where XLA left the check out, other numbers of ids do not reshape.
    shape = tf.concat([sizes[:1], tf.cast(inner, tf.int64)], 0)
    kept = tf.reshape(_plain.scattered(bits, tf.reshape(position, (-1,)), act), shape)
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    value = tf.cast(tf.cast(x, wide) * tf.cast(factor, wide), x.dtype)
    return tf.ensure_shape(tf.where(kept, value, tf.zeros((), x.dtype)), x.shape)


def _ids(name: str, ids: Any) -> Any:
    tensor = tf.convert_to_tensor(ids)
    if not tensor.dtype.is_integer:
        raise TypeError(f"{name} must be integers, got {tensor.dtype.name}: numbers in the whole, no mask")
    if tensor.shape.rank not in (1, None):
        raise ValueError(f"{name} must be of one dimension, got shape {tensor.shape}")
    return tf.ensure_shape(tensor, (None,))


def _within(name: str, numbers: Any, most: Any, last: str = "num_nodes - 1") -> Any:
    """Refuse numbers outside the whole: two of them would share a decision."""
    fits = numbers >= 0 if most is None else tf.logical_and(numbers >= 0, numbers < most)
    whole = "0 on" if most is None else f"0 to {last}"
    got = [] if most is None else [" =", most - 1]
    with tf.control_dependencies(
        [tf.debugging.Assert(tf.reduce_all(fits), [f"{name} must be numbers from {whole}", *got])]
    ):
        return tf.identity(numbers)
