"""DropEdge on graphs of torch_geometric, where it is installed: as a transform, and in its loaders."""

import pytest
import torch

from thinned import Key, keep_mask
from thinned.torch import keyed, nn, set_step

pytestmark = pytest.mark.full
KEY = Key(3, 1)


def graph():
    """Nine nodes, both directions of each edge, and what belongs to edges and nodes."""
    data = pytest.importorskip("torch_geometric.data")
    half = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8, 8]])
    edges = torch.cat([half, half.flip(0)], 1)
    return data.Data(
        x=torch.randn(9, 4), edge_index=edges, edge_attr=torch.arange(18.0)[:, None], y=torch.arange(9)
    )


def test_a_transform_takes_edges_and_what_belongs_to_them():
    transforms = pytest.importorskip("torch_geometric.transforms")
    data, drop = graph(), keyed(nn.DropEdge(0.4, undirected=True), 1)
    fewer = transforms.Compose([transforms.AddSelfLoops("edge_attr"), drop.transform])(data.clone())
    assert fewer.edge_index.shape[1] == fewer.edge_attr.shape[0] < 27
    assert torch.equal(fewer.x, data.x)
    assert torch.equal(fewer.y, data.y)
    kept = {tuple(edge) for edge in fewer.edge_index.T.tolist()}
    assert kept == {(b, a) for a, b in kept}
    assert data.edge_index.shape[1] == 18
    again = drop.transform(data)
    assert torch.equal(again.edge_index, drop.transform(data).edge_index)
    assert not torch.equal(again.edge_index, set_step(drop, 1).transform(data).edge_index)
    assert torch.equal(drop.eval().transform(data).edge_index, data.edge_index)


def test_a_subgraph_has_the_decisions_of_the_whole():
    """Of nodes with numbers of their own, `n_id`, as the neighbour loaders set them."""
    utils = pytest.importorskip("torch_geometric.utils")
    data, drop = graph(), keyed(nn.DropEdge(0.4), 1)
    nodes = torch.tensor([8, 3, 5, 7])
    edges, attributes = utils.subgraph(nodes, data.edge_index, data.edge_attr, num_nodes=9)
    place = torch.full((9,), -1)
    place[nodes] = torch.arange(4)
    small = type(data)(x=data.x[nodes], edge_index=place[edges], edge_attr=attributes, n_id=nodes)
    whole = drop.transform(data)
    inside = torch.isin(whole.edge_index, nodes).all(0)
    expected = whole.edge_attr[inside].flatten().sort().values
    assert torch.equal(drop.transform(small).edge_attr.flatten().sort().values, expected)


def test_a_layer_of_theirs_takes_what_ours_drop():
    layers = pytest.importorskip("torch_geometric.nn")
    data, layer = graph(), layers.GCNConv(4, 2)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.edges, self.nodes, self.layer = nn.DropEdge(0.4), nn.DropNode(0.4), layer

        def forward(self, x, edge_index):
            return self.layer(self.nodes(x), self.edges(edge_index))

    model = keyed(Model(), 1)
    model(data.x, data.edge_index).sum().backward()
    rows = keep_mask((9, 1), 0.4, key=Key(1).fold("nodes").fold(0))
    expected = layer(torch.where(torch.from_numpy(rows), data.x / 0.6, 0.0), model.edges(data.edge_index))
    torch.testing.assert_close(model(data.x, data.edge_index), expected)
    assert torch.equal(model.eval()(data.x, data.edge_index), layer(data.x, data.edge_index))
