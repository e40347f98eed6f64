"""What the structured, learned and graph families would do wrong in silence, or refuse by name."""

import math

import pytest
import torch

from thinned import Key
from thinned.contract import normal
from thinned.torch import functional as F
from thinned.torch import keyed, members, nn, r_drop, regularization, set_rows, strip, twice
from thinned.torch.schedules import Curriculum, Linear

KEY = Key(3, 1)
X = torch.linspace(-2, 3, 24).reshape(4, 6)
EDGES = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
INF = math.inf


def test_no_verb_swallows_a_keyword_in_evaluation():
    """Every verb that is listed: an unknown name is refused before anything else is looked at."""
    for name in set(F.__all__) - {"layer_drop"}:  # whose keywords are its layers'
        with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
            getattr(F, name)(X, foo=1)


@pytest.mark.parametrize("p", [0.4, 0.9])
def test_dropkey_with_a_models_own_mask_has_no_nan(p):
    hidden = torch.ones(6, 6, dtype=torch.bool).triu(1)
    hidden[2] = True  # a query that sees no key at all
    for seed in range(8):
        scores = torch.zeros(6, 6, requires_grad=True)
        weights = F.drop_key(scores.masked_fill(hidden, -INF), p, True, key=Key(seed))
        assert weights.isfinite().all()
        assert (weights[hidden] == 0).all()
        total = weights.sum(-1)
        assert ((total == 0) | ((total - 1).abs() < 1e-6)).all()
        weights.square().sum().backward()
        assert scores.grad.isfinite().all()


@pytest.mark.parametrize("verb", [F.drop_node, F.drop_message, F.dropout, F.standout, F.concrete_dropout])
def test_all_dropped_has_gradient_zero(verb):
    x = torch.tensor([[1.0, INF], [math.nan, -2.0]], requires_grad=True)
    p = torch.tensor(1.0) if verb in (F.standout, F.concrete_dropout) else 1.0
    y = verb(x, p, True, key=KEY)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 2))
    assert torch.equal(x.grad, torch.zeros(2, 2))


def test_standout_evaluates_what_is_always_dropped_to_zero():
    assert torch.equal(F.standout(torch.tensor([INF, math.nan]), torch.ones(2), False), torch.zeros(2))


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # torch's own, in jvp
def test_forward_derivatives_of_learned_rates_are_the_backward_ones():
    p = torch.full((4, 6), 0.3)
    for verb in (F.standout, F.concrete_dropout, F.variational_dropout):

        def total(p, verb=verb):
            return verb(X, p, True, key=KEY).sum()

        _, forward = torch.func.jvp(total, (p,), (torch.ones_like(p),))
        torch.testing.assert_close(forward, torch.func.grad(total)(p).sum())


@pytest.mark.parametrize("autocast", [False, True])
def test_variational_linear_does_not_leave_the_range_of_float16(autocast):
    dtype = torch.float32 if autocast else torch.float16
    x, w = torch.full((2, 4), 300.0, dtype=dtype), torch.ones(3, 4, dtype=dtype)
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        y = F.variational_linear(x, w, 1e-2 * w, None, True, key=KEY)
    z = torch.from_numpy(normal(KEY, torch.arange(6).numpy())).reshape(2, 3)
    torch.testing.assert_close(y.double(), 1200 + 60 * z.double(), rtol=2e-3, atol=0)


def test_a_compiled_layers_regularization_is_counted_once():
    layer = nn.ConcreteDropout(torch.nn.Linear(6, 3), samples=9)
    compiled = torch.compile(layer, backend="eager")
    for model in (compiled, torch.nn.Sequential(compiled)):
        assert torch.equal(regularization(model), layer.regularization())


def test_a_schedule_is_asked_for_where_evaluation_is_by_p():
    with pytest.raises(RuntimeError, match="needs a step"):
        nn.ShakeDrop(Linear(0.5, 0.5, 5)).eval()(X)
    cell = nn.ZoneoutCell(torch.nn.GRUCell(6, 6), Linear(0.5, 0.5, 5)).eval()
    with pytest.raises(RuntimeError, match="needs a step"):
        cell(X, X)


def test_classes_that_both_passes_hide_have_no_share_of_the_divergence():
    one, other = torch.tensor([[0.0, 1.0]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    hide = torch.tensor([[-INF]])
    hidden = r_drop(torch.cat([one, hide], 1), torch.cat([other, hide], 1))
    torch.testing.assert_close(hidden, r_drop(one, other))
    hidden.backward()
    assert one.grad.isfinite().all()


class Part(torch.nn.Module):
    def forward(self, x, mask=None):
        return x[:3]


REFUSED = {
    "replacement must be an integer, got 0.5": lambda: F.word_dropout(EDGES, 0.5, 0.5, True),
    "protected must be an integer, got 1.5": lambda: nn.WordDropout(0.5, 0, (1.5,)),
    "node_ids must be integers": lambda: F.drop_edge(EDGES, 0.5, True, node_ids=torch.rand(4)),
    "edge_index must be integers": lambda: F.drop_edge(EDGES.bool(), 0.5, True),
    "num_nodes must be positive, got 0": lambda: F.drop_edge(EDGES, 0.5, True, num_nodes=0),
    "nodes must be numbers from 0 to num_nodes - 1 = 1, got 0 to 3": lambda: F.drop_edge(
        EDGES, 0.5, True, num_nodes=2
    ),
    "nodes must be numbers from 0 on, got -3 to 0": lambda: F.drop_edge(-EDGES, 0.5, True),
    "ids must be integers, got torch.bool": lambda: F.drop_node(X, 0.5, True, node_ids=X[:, 0] > 0),
    "ids must be numbers from 0 on": lambda: F.drop_message(X, 0.5, True, edge_ids=-torch.arange(4)),
    "input must have a dimension of nodes": lambda: F.drop_node(torch.tensor(1.0), 0.5, True),
    "width must be an integer, got 2.5": lambda: F.mask_spans(X, 2.5, 1, 1, True),
    "count must not be negative, got -1": lambda: F.mask_spans(X, 2, -1, 1, True),
    "size must be an integer, got 2.5": lambda: F.cutout(X[None, None], (2.5, 2), 1.0, True),
    "prefix_tokens must be an integer, got True": lambda: F.patch_dropout(X, 0.5, True, prefix_tokens=True),
    r"patch_dropout takes \(N, L": lambda: nn.PatchDropout(0.5)(X[0]),
    r"p must be in \[0, 1\), got 1": lambda: F.variational_dropout(X, torch.tensor(1.0), True),
    "target must be of input's shape and dtype": lambda: F.mixout(X, X.double(), 0.5, True),
    "inputs must be tensors of one batch": lambda: twice(Part(), X, torch.ones(5, 5)),
    "the model's output must be a tensor": lambda: twice(Part(), X),
    "input must be real numbers": lambda: nn.FixedDropout(0.5, 2, key=KEY)(EDGES),
    r"got torch.float32 of \(4,\)": lambda: nn.FixedDropout(0.5, 2, key=KEY)(X[:, 0]),
    "member must be from 0 to 1, or None, got 7": lambda: member(7)(X),
    "a layer's member is set": lambda: members(member(1), X),
    "features must be an integer, got 4.0": lambda: nn.Masksembles(4.0, 2, key=KEY),
    "scale must be 1 or more, and less than": lambda: nn.Masksembles(4, 2, INF, key=KEY),
    "pass ids or a place": lambda: F.drop_node(
        X, 0.5, True, node_ids=torch.arange(4), global_shape=(8, 6), start=(4, 0)
    ),
    "gamma must be positive and finite, got inf": lambda: Curriculum(0.5, INF),
}


def member(number):
    layer = nn.FixedDropout(0.5, 2, key=KEY)
    layer.member = number
    return layer


@pytest.mark.parametrize("message", REFUSED)
def test_what_would_be_wrong_in_silence_is_refused(message):
    with pytest.raises((TypeError, ValueError), match=message):
        REFUSED[message]()


def test_a_curriculum_begins_at_none():
    assert Curriculum(0.5, 0.1)(-3) == Curriculum(0.5, 0.1)(torch.tensor(-3)).item() == 0.0


IMAGES = torch.linspace(-1, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)
BY_SAMPLE = {
    "ConcreteDropout": (nn.ConcreteDropout(torch.nn.Linear(6, 5), 0.4, samples=9), X),
    "VariationalDropout": (nn.VariationalDropout(torch.nn.Linear(6, 5), 0.4, samples=9), X),
    "SparseVariationalLinear": (nn.SparseVariationalLinear(6, 5, samples=9), X),
    "SparseVariationalConv2d": (nn.SparseVariationalConv2d(3, 2, 3, samples=9, stride=2), IMAGES),
    "Standout": (nn.Standout(), X),
    "SpatialDropout": (nn.SpatialDropout(0.4, "NF", "N"), X),
    "WordDropout": (nn.WordDropout(0.4, -1), torch.arange(24).reshape(4, 6)),
    "DropKey": (nn.DropKey(0.4), X),
    "PatchDropout": (nn.PatchDropout(0.4), X),
    "ShakeDrop": (nn.ShakeDrop(0.5), X),
    "SpecAugment": (nn.SpecAugment(4, 4), IMAGES),
    "Cutout": (nn.Cutout(3, 0.5), IMAGES),
    "MultiSampleDropout": (nn.MultiSampleDropout(torch.nn.Linear(6, 5), 0.4, 3), X),
    "DropNode": (nn.DropNode(0.4), X),
    "DropMessage": (nn.DropMessage(0.4), X),
    "DropHead": (nn.DropHead(0.4), X),
}


@pytest.mark.parametrize("name", BY_SAMPLE)
def test_rows_that_set_rows_names_have_the_masks_of_the_whole(name):
    layer, x = BY_SAMPLE[name]
    layer = keyed(layer, seed=2)
    whole = layer(x)
    for start in range(2):
        part = set_rows(layer, range(start, 4, 2), 4)(x[start::2])
        torch.testing.assert_close(part, whole[start::2], rtol=1e-5, atol=1e-6)
    set_rows(layer, None)


def test_what_evaluates_to_its_input_is_stripped():
    names = ("SpatialDropout", "WordDropout", "PatchDropout", "SpecAugment", "Cutout")
    for layer, x in (BY_SAMPLE[name] for name in names):
        assert layer.eval()(x) is x
        report = strip(torch.nn.Sequential(layer))
        assert isinstance(report.model[0], torch.nn.Identity), report
        layer.train()


def test_fixed_masks_of_a_model_without_memory_are_made_where_it_gets_some():
    with torch.device("meta"):
        layer = nn.Masksembles(8, 4, key=KEY)
    assert layer.masks.is_meta
    layer = torch.nn.Sequential(layer).to_empty(device="cpu")[0]
    expected = nn.Masksembles(8, 4, key=KEY)
    assert torch.equal(layer(torch.ones(8, 8)), expected(torch.ones(8, 8)))
    assert torch.equal(layer.masks, expected.masks)
