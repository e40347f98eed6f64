"""These layers drop edges, nodes and messages of graphs."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class DropEdge(Site):
    """Take edges out of a graph in training: `edge_index`, and what belongs to each edge, become fewer.

    Given a graph of torch_geometric (anything with `edge_index`, and `num_nodes`), `drop.transform(data)`
    gives one like it; `n_id`, which its neighbour loaders set, tells the nodes of a mini-batch apart.

    Args:
        p: drop probability in [0, 1], or a schedule.
        undirected: whether both directions of an edge have one decision.

    Raises:
        TypeError: `p must be a real number, got …`; `edge_index must be integers of shape (2, E), got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Rong, Huang, Xu and Huang, "DropEdge", ICLR 2020.

    Example:
        >>> import torch
        >>> edges, weights = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.ones(3)
        >>> edges, weights = DropEdge(1.0)(edges, weights)
        >>> edges.shape, weights.shape
        (torch.Size([2, 0]), torch.Size([0]))
    """

    _shown = ("p", "undirected")

    def __init__(self, p: Probability = 0.5, undirected: bool = False) -> None:
        super().__init__()
        self.p = check_p(p)
        self.undirected = undirected

    def forward(
        self,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        *,
        node_ids: Tensor | None = None,
        key: MaskKey = None,
        call: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The edges that stay, and their attributes if given; `key` and `call` as in all layers."""
        given = self.mask_key(call, edge_index, key)
        kept = functional.drop_edge(
            edge_index,
            self.rate(self.p),
            self.training,
            undirected=self.undirected,
            node_ids=node_ids,
            key=given,
        )
        stay = edge_index[:, kept]
        return stay if edge_attr is None else (stay, edge_attr[kept])

    def transform(self, data: Any) -> Any:
        """A copy of a torch_geometric graph with fewer edges; whatever is said of each edge goes along."""
        kept = functional.drop_edge(
            data.edge_index,
            self.rate(self.p),
            self.training,
            undirected=self.undirected,
            node_ids=getattr(data, "n_id", None),
            key=self.mask_key(None, data.edge_index),
        )
        fewer = copy.copy(data)
        for name, value in list(data.to_dict().items()):
            if name == "edge_index":
                fewer[name] = value[:, kept]
            elif isinstance(value, Tensor) and data.is_edge_attr(name):
                fewer[name] = value[kept]
        return fewer


class _Numbered(Site):
    """The base of layers whose rows have numbers in a whole graph."""

    _shown = ("p",)

    def __init__(self, p: Probability = 0.5) -> None:
        super().__init__()
        self.p = check_p(p)


class DropNode(_Numbered):
    """Drop whole nodes of a graph in training, by their numbers in it.

    Args:
        p: drop probability in [0, 1], or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Feng et al., "Graph Random Neural Networks", NeurIPS 2020.

    Example:
        >>> import torch
        >>> DropNode(0.5)(torch.ones(4, 3), torch.tensor([7, 5, 0, 1])).shape
        torch.Size([4, 3])
    """

    def forward(
        self, input: Tensor, node_ids: Tensor | None = None, *, key: MaskKey = None, call: int | None = None
    ) -> Tensor:
        """Drop nodes in training, by `key` if given; `call` tells calls of one step apart."""
        return functional.drop_node(
            input,
            self.rate(self.p),
            self.training,
            node_ids=node_ids,
            key=self.mask_key(call, input, key),
            **(self.place(input, 0) if node_ids is None else {}),
        )


class DropMessage(_Numbered):
    """Drop single elements of a graph's messages in training, by the number of their edge.

    Args:
        p: drop probability in [0, 1], or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Fang et al., "DropMessage: Unifying Random Dropping for Graph Neural Networks", AAAI 2023.

    Example:
        >>> import torch
        >>> DropMessage(0.5)(torch.ones(4, 3), torch.tensor([7, 5, 0, 1])).shape
        torch.Size([4, 3])
    """

    def forward(
        self, input: Tensor, edge_ids: Tensor | None = None, *, key: MaskKey = None, call: int | None = None
    ) -> Tensor:
        """Drop elements in training, by `key` if given; `call` tells calls of one step apart."""
        return functional.drop_message(
            input,
            self.rate(self.p),
            self.training,
            edge_ids=edge_ids,
            key=self.mask_key(call, input, key),
            **(self.place(input, 0) if edge_ids is None else {}),
        )
