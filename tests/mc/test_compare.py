"""The comparison: figures that are predict's and the model's, what is shown, and what is refused."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from thinned import Key
from thinned.mc._bootstrap import Estimate
from thinned.mc._collect import SilentError
from thinned.mc._compare import compare
from thinned.mc._losses import of_classes
from thinned.mc._measures import measures
from thinned.mc._scaled import evaluating
from thinned.mc._verdict import judge
from thinned.mc.torch import predict

QUICK = {"samples": 12, "resamples": 99}


@pytest.fixture(scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(one_thread):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
        ).eval()


@pytest.fixture(scope="module")
def data(model):
    """Labels that the model mostly gets right."""
    x = torch.randn(230, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = torch.distributions.Categorical(logits=5 * model(x)).probs.argmax(dim=1)
    y[::5] = (y[::5] + 1) % 3
    return x, y


@pytest.fixture(scope="module")
def found(model, data):
    return compare(model, data, key=Key(3), **QUICK)


def test_weight_scaling_is_the_model_in_evaluation(model, data, found):
    x, y = data
    with torch.no_grad():
        expected = measures(model(x).double().softmax(dim=1), y)
    for name, one in found.weight_scaling.items():
        assert one.value == pytest.approx(getattr(expected, name), rel=1e-5), name


def test_the_last_rung_is_what_predict_gives(model, data, found):
    x, y = data
    expected = measures(predict(model, x, samples=12, key=Key(3), outputs="logits").mean, y)
    for name, one in found.averages[-1].values.items():
        assert one.value == pytest.approx(getattr(expected, name), rel=1e-5), name
    assert [one.k for one in found.averages] == [1, 2, 5, 10, 12]
    assert [rung.groups for rung in found.averages] == [12, 6, 2, 1, 1]


def test_differences_are_paired_and_inside_their_intervals(found):
    for rung in found.averages:
        for name, one in rung.differences.items():
            expected = rung.values[name].value - found.weight_scaling[name].value
            assert one.value == pytest.approx(expected, abs=1e-12)
            assert one.low <= one.high
    last = found.averages[-1].differences
    for name, one in found.verdict.items():
        assert one.value == last[name].value
        assert one.low <= last[name].low <= last[name].high <= one.high


@pytest.mark.parametrize("kind", ["arrays", "loader", "list", "small batches"])
def test_all_forms_of_data_give_the_same(model, data, found, kind):
    x, y = data
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=64)
    given, more = {
        "arrays": ((x.double().numpy(), y.numpy()), {}),
        "loader": (loader, {}),
        "list": ([*list(loader)[:2], [x[128:], y[128:]]], {}),
        "small batches": (data, {"batch_size": 7, "memory": 1 << 16}),
    }[kind]
    again = compare(model, given, key=Key(3), **QUICK, **more)
    for mine, theirs in zip([*found.averages], [*again.averages], strict=True):
        for name in ("nll", "brier"):
            assert theirs.values[name].value == pytest.approx(mine.values[name].value, rel=1e-5)
            assert theirs.differences[name].low == pytest.approx(
                mine.differences[name].low, rel=1e-3, abs=1e-5
            )
    assert again.inputs == 230


def test_the_default_key_makes_it_come_out_the_same_again(model, data):
    first, second = (compare(model, data, **QUICK) for _ in range(2))
    assert first == second
    assert first.key == Key(0)


def test_the_model_stays_as_it_was(model, data):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    try:
        trained = compare(model, data, key=Key(3), **QUICK)
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert trained.to_dict() == compare(model, data, key=Key(3), **QUICK).to_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_evaluation_is_put_back_whatever_happens():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(3)).eval())

    def fails():
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [module.training for module in model.modules()] == [True, True, False, False]


def test_weight_scaling_evaluates_what_never_does(data):
    """Dropout that the forward pass forces on, as older recipes for Monte Carlo have it."""
    x, y = data

    class Always(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            mixed = nn.functional.scaled_dot_product_attention(
                x[:, None], x[:, None], x[:, None], dropout_p=0.3
            )
            return self.head(nn.functional.dropout(mixed[:, 0], 0.5, training=True))

    model = Always().eval()
    with torch.no_grad():
        expected = measures(model.head(x).softmax(dim=1), y)
    one = compare(model, data, **QUICK).weight_scaling["nll"]
    assert one.value == pytest.approx(expected.nll, rel=1e-5)


def test_probabilities_are_logits_behind_a_softmax(model, data, found):
    again = compare(
        nn.Sequential(*model, nn.Softmax(dim=1)), data, outputs="probabilities", key=Key(3), **QUICK
    )
    for mine, theirs in zip(found.averages, again.averages, strict=True):
        assert theirs.values["nll"].value == pytest.approx(mine.values["nll"].value, rel=1e-5)
    assert again.weight_scaling["brier"].value == pytest.approx(found.weight_scaling["brier"].value, rel=1e-5)


def test_values_have_an_error_and_a_likelihood(model, data):
    x, _ = data
    with torch.no_grad():
        y = model(x) + 0.1
    found = compare(model, (x, y), outputs="values", **QUICK)
    assert found.weight_scaling["rmse"].value == pytest.approx(0.1, rel=1e-4)
    assert list(found.verdict) == ["rmse", "nll"]
    assert (found.use, found.crossover) == ("weight scaling", None)
    assert "worse in RMSE" in found.reason


def test_no_crossover_is_an_answer(model, data):
    x, _ = data
    with torch.no_grad():
        y = model(x).argmax(dim=1)  # weight scaling is never wrong
    found = compare(model, (x, y), **QUICK)
    assert found.weight_scaling["error"].value == 0
    assert (found.crossover, found.crossover_interval) == (None, (None, None))
    assert "For no k up to 12" in str(found)
    assert "that is none up to 12." in str(found)


def test_cautions_come_where_they_belong(model, data, found):
    def said(one):
        return " ".join(one.cautions)

    assert "are few" not in said(found)
    assert "Each of the 24 intervals" in said(found)
    assert "verdict's 4" in said(found)
    x, y = data
    few = said(compare(model, (x[:40], y[:40]), **QUICK))
    assert "40 inputs are few" in few
    probabilities = np.tile([0.6, 0.4], (30, 1))
    alike = judge(
        of_classes(np.stack([probabilities] * 4), probabilities, np.zeros(30, int)),
        Key(0),
        bins=5,
        resamples=99,
    )
    assert "On no input is one right and the other wrong" in said(alike)
    assert "10.0% (3 / 30)" in said(alike)


def test_text_markdown_and_json_say_the_same(found):
    text, page, facts = str(found), found.to_markdown(), json.loads(json.dumps(found.to_dict()))
    assert facts["key"] == {"seed": 3, "stream": 0}
    assert facts["reason"] in text
    assert facts["reason"] in page
    for name, digits, scale in (("error", 2, 100), ("nll", 4, 1)):
        shown = f"{scale * facts['weight_scaling'][name]['value']:.{digits}f}"
        assert shown in text
        assert shown in page
    assert all(caution in page for caution in found.cautions)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 1 + len(found.averages) + 1
    assert len({row.count("|") for row in rows}) == 1
    assert "points (" in rows[-1]


def test_a_model_without_dropout_is_refused(data):
    with pytest.raises(SilentError, match="all samples of all inputs are equal"):
        compare(nn.Linear(6, 3), data, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "more", "error", "message"),
    [
        (("x", "short"), {}, ValueError, "x and y must have as many inputs, got 230 and 3"),
        (("x", "float"), {}, TypeError, "labels must be integers, got float32"),
        (("x", "large"), {}, ValueError, r"labels must be in \[0, 3\)"),
        (
            ("x", "y"),
            {"outputs": "values"},
            ValueError,
            r"targets must have the outputs' shape \(230, 3\), got \(230,\)",
        ),
        (("x", "y"), {"outputs": "probabilities"}, ValueError, 'pass outputs="logits" for scores'),
        (("x", "y"), {"resamples": 98}, ValueError, "resamples must be at least 99, got 98"),
        (("x", "y"), {"samples": 1}, ValueError, "samples must be at least 2, got 1"),
        (("x", "y"), {"bins": 0}, ValueError, "bins must be at least 1, got 0"),
        (("x", "y"), {"key": 3}, TypeError, "key must be a thinned.Key, got 3"),
        (("x",), {}, TypeError, r"data must be a pair \(x, y\)"),
        (
            "x",
            {},
            TypeError,
            r"data must be a pair \(x, y\), a tuple, or an iterable of such pairs, got Tensor",
        ),
    ],
)
def test_what_is_wrong_is_named(model, data, arguments, more, error, message):
    x, y = data
    parts = {"x": x, "y": y, "short": y[:3], "float": y.float(), "large": y + 1}
    given = parts[arguments] if isinstance(arguments, str) else tuple(parts[name] for name in arguments)
    with pytest.raises(error, match=message):
        compare(model, given, **{**QUICK, **more})


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        (
            lambda x, y: (x, torch.tensor(1)),
            ValueError,
            "y must have one entry for each input, got a single int64",
        ),
        (lambda x, y: (x, y.to(torch.complex64)), TypeError, "targets must be real numbers, got complex64"),
        (lambda x, y: Frame(), TypeError, r"data must be a pair \(x, y\), .* got Frame"),
        (lambda x, y: {"x": x, "y": y}, TypeError, r"data must be a pair \(x, y\), .* got dict"),
    ],
    ids=["0-d y", "complex y", "data frame", "mapping"],
)
def test_what_is_no_data(model, data, made, error, says):
    with pytest.raises(error, match=says):
        compare(model, made(*data), **QUICK)


class Frame:
    """As pandas' and polars' data frames: an iterable of its columns' names."""

    def __iter__(self):
        return iter(["x", "y"])

    def to_numpy(self):
        return np.zeros((3, 2))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return torch.complex(self.drop(x), x)


def test_no_imaginary_part_is_lost(data):
    x, _ = data
    with pytest.raises(TypeError, match="must return real numbers, got complex64"):
        compare(Complex(), (x, x), outputs="values", **QUICK)
    with pytest.raises(TypeError, match="probabilities must be real numbers, got complex128"):
        measures(np.ones((2, 2), complex) / 2, [0, 1])


def test_an_estimate_stands_out_when_zero_is_outside():
    assert Estimate(1, 0.5, 2).excludes_zero()
    assert Estimate(-1, -2, -0.5).excludes_zero()
    assert not Estimate(1, -0.5, 2).excludes_zero()
