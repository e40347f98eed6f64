"""These functions drop edges, nodes and messages of graphs, by their numbers in the whole graph."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned._position import check_numbers
from thinned.contract import Key, check_integer
from thinned.torch import _eager, _export, _key, _native
from thinned.torch._numbers import drop_threshold, word_at
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch._rate import check_number
from thinned.torch._remat import lean
from thinned.torch.functional._dropout import dropout


@overridable
def drop_edge(
    edge_index: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    *,
    num_nodes: int | None = None,
    undirected: bool = False,
    node_ids: Tensor | None = None,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Say which edges of a graph stay: True where an edge is kept, for `edge_index[:, kept]`.

    An edge's position is source · num_nodes + target, that of its entry in the adjacency matrix: it is kept
    or dropped alike in whatever order, mini-batch or shard it comes.

    Args:
        edge_index: (2, E), integers: sources and targets, as torch_geometric has it.
        p: drop probability in [0, 1], a number or a tensor of no dimension.
        training: True drops, False keeps all.
        num_nodes: of the whole graph. Without one, 2^31 stands for it, whatever nodes the edges have.
        undirected: whether both directions of an edge have one decision.
        node_ids: of the whole graph, for each node of a mini-batch: edges are then counted by these.
        key: of the mask, one of (num_nodes, num_nodes). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.

    Returns:
        (E,), bool. No scale is applied: DropEdge leaves normalising to the layer that aggregates.

    Raises:
        TypeError: `edge_index must be integers of shape (2, E), got …`; as `dropout`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Rong, Huang, Xu and Huang, "DropEdge: Towards Deep Graph Convolutional Networks on Node
        Classification", ICLR 2020.

    Example:
        >>> import torch, thinned
        >>> edges = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3]])
        >>> drop_edge(edges, 0.5, training=True, num_nodes=4, key=thinned.Key(0))
        tensor([ True, False,  True,  True])
    """
    training = check_training(training)
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or not _counts(edge_index):
        raise TypeError(
            f"edge_index must be integers of shape (2, E), got {edge_index.dtype} of shape "
            f"{tuple(edge_index.shape)}"
        )
    if num_nodes is not None and check_integer("num_nodes", num_nodes) < 1:
        raise ValueError(f"num_nodes must be positive, got {num_nodes}")
    if node_ids is not None and not _counts(node_ids):
        raise TypeError(f"node_ids must be integers, got {node_ids.dtype}")
    if node_ids is not None and node_ids.dim() != 1:
        raise ValueError(f"node_ids must be of one dimension, got shape {tuple(node_ids.shape)}")
    check_number(p, edge_index)
    key = _key.check_source(key, generator)
    if not training:
        return torch.ones(edge_index.shape[1], dtype=torch.bool, device=edge_index.device)
    if node_ids is not None:  # a negative number would be counted from the end
        _check_numbers("edge_index", edge_index, node_ids.shape[0], "the last of node_ids")
    ends = (edge_index if node_ids is None else node_ids[edge_index]).long()
    _check_numbers("nodes", ends, num_nodes)
    source, target = ends.unbind(0)
    if undirected:
        source, target = torch.minimum(source, target), torch.maximum(source, target)
    position = source * (2**31 if num_nodes is None else num_nodes) + target
    kept = word_at(position, _key.as_tensor(key, generator)) >= drop_threshold(p, edge_index.device)
    return _export.turned(kept, lambda: torch.ones_like(kept))


@overridable
def drop_node(
    input: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    *,
    node_ids: Tensor | None = None,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Drop whole nodes of a graph by their numbers, and multiply what is kept by 1/(1−p).

    Args:
        input: (V, …), features of nodes; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or a tensor of no dimension.
        training: True drops, False evaluates to input itself.
        node_ids: (V,), numbers in the whole graph; 0 to V − 1 if not given, which is `dropout` with one
            decision a row.
        key: of the mask, one of (nodes, 1). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`, where no ids are given.

    Returns:
        A tensor of input's shape and dtype; dropped nodes are +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `p must be in [0, 1], got …`; `… ids of shape … do not fit …`.

    Source:
        Feng et al., "Graph Random Neural Networks for Semi-Supervised Learning on Graphs", NeurIPS 2020.

    Example:
        >>> import torch, thinned
        >>> ids = torch.tensor([1, 0, 4])
        >>> drop_node(torch.ones(3, 2), 0.5, training=True, node_ids=ids, key=thinned.Key(0))[:, 0]
        tensor([0., 2., 2.])
    """
    return _by_ids(input, p, training, node_ids, (key, generator), True, place)


@overridable
def drop_message(
    input: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    *,
    edge_ids: Tensor | None = None,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Drop single elements of messages by the number of their edge, and multiply the others by 1/(1−p).

    Args:
        input: (E, F), messages; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or a tensor of no dimension.
        training: True drops, False evaluates to input itself.
        edge_ids: (E,), numbers in the whole graph; 0 to E − 1 if not given, which is `dropout`.
        key: of the mask, one of (edges, F). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`, where no ids are given.

    Returns:
        A tensor of input's shape and dtype; what is dropped is +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `p must be in [0, 1], got …`; `… ids of shape … do not fit …`.

    Source:
        Fang et al., "DropMessage: Unifying Random Dropping for Graph Neural Networks", AAAI 2023.

    Example:
        >>> import torch, thinned
        >>> ids = torch.tensor([4, 0])
        >>> drop_message(torch.ones(2, 5), 0.5, training=True, edge_ids=ids, key=thinned.Key(0))
        tensor([[0., 0., 0., 0., 2.],
                [2., 0., 2., 2., 2.]])
    """
    return _by_ids(input, p, training, edge_ids, (key, generator), False, place)


def _by_ids(
    input: Tensor,
    p: Any,
    training: bool,
    ids: Tensor | None,
    source: tuple[Any, Any],
    shared: bool,
    place: Place,
) -> Tensor:
    """Dropout of rows that stand elsewhere in a whole: one number for each, or one for each element."""
    training = check_training(training)
    _native.check_dtype(input, training)
    check_number(p, input)
    key, generator = source
    key = _key.check_source(key, generator)
    rows = input.shape[:1]
    if not rows:
        raise ValueError("input must have a dimension of nodes or edges, got shape ()")
    if ids is not None and not _counts(ids):
        raise TypeError(f"ids must be integers, got {ids.dtype}: they are numbers in the whole, and no mask")
    if ids is not None and ids.shape != rows:
        raise ValueError(f"ids of shape {tuple(ids.shape)} do not fit input of shape {tuple(input.shape)}")
    if ids is None:
        noise = (None, *(1,) * (input.dim() - 1)) if shared else None
        return dropout(input, p, training, key=key, generator=generator, noise_shape=noise, **place)
    if any(each is not None for each in place.values()):
        raise ValueError(
            "pass ids or a place (global_shape, start, step), not both: either says where rows are"
        )
    if not training:
        return input
    _check_numbers("ids", ids)
    columns = 1 if shared else input[:1].numel()
    position = ids.long().reshape(-1, *(1,) * (input.dim() - 1)) * columns
    if columns > 1:
        position = position + torch.arange(columns, device=input.device).reshape(input.shape[1:])
    bits = _key.as_tensor(key, generator)
    result = lean(_kept, input, position, bits, drop_threshold(p, input.device))
    return _export.turned(result, lambda: input)


def _counts(ids: Tensor) -> bool:
    return not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)


def _check_numbers(name: str, ids: Tensor, most: int | None = None, whole: str = "num_nodes - 1") -> None:
    """Refuse numbers outside the whole, where they are at hand: two of them would share a decision."""
    if (
        torch.compiler.is_compiling()
        or not _eager.applies(ids)
        or ids.device.type != "cpu"
        or not ids.numel()
    ):
        return
    low, high = ids.aminmax()
    check_numbers(name, int(low), int(high), most, whole)


def _kept(input: Tensor, position: Tensor, key: Tensor, drop: Tensor) -> Tensor:
    wide = torch.promote_types(input.dtype, torch.float32)
    # At p = 1 nothing is kept, and an infinite factor would make the gradient 0 · ∞.
    factor = (2.0**32 / (2.0**32 - drop.double()).clamp_min(1.0)).to(wide)
    value = (input.to(wide) * factor).to(input.dtype)
    return torch.where(word_at(position, key) >= drop, value, 0.0)
