"""What `predict` refuses, and what it says."""

import random
import warnings

import numpy as np
import pytest
import torch
from mc import zoo
from predicted import KEY, mlp, rows

import thinned
from thinned.mc import Predictor, SilentError
from thinned.mc.torch import active, predict
from thinned.torch import functional, nn


@pytest.mark.parametrize("name", zoo.SILENT)
def test_silence_is_an_error(name):
    model, x = zoo.build(zoo.SILENT[name])
    message = "all samples of all inputs are equal: Sequential has nothing that drops. No call in its forward"
    with pytest.raises(SilentError, match=message):
        predict(model, x, samples=5)


def test_a_silent_site_is_named():
    class Silent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.attention = torch.nn.Linear(4, 4), torch.nn.Module()
            self.attention.dropout_p = 0.3

        def forward(self, x):
            return self.block(x)

    with pytest.raises(SilentError, match=r"attention: Module p=0.3, nothing drew by its dropout_p: name"):
        predict(Silent(), torch.ones(2, 4), samples=5)


def test_a_model_that_cannot_be_traced_is_run_as_it_is():
    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, x):
            y = self.drop(x)
            return y * 2 if bool(y.sum() > 6) else y

    with pytest.warns(UserWarning, match="model cannot be traced") as caught:
        found = predict(Branching(), torch.ones(3, 8), samples=6, key=KEY, keep=True)
    assert caught[0].filename == __file__
    for k in range(6):
        for i in range(3):
            y = thinned.dropout(
                np.ones((1, 8), np.float32), 0.5, key=KEY.fold(k).fold(i).fold(0), training=True
            )
            assert np.array_equal(found.draws[k, i], (y * 2 if y.sum() > 6 else y)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
def test_a_compiled_model_is_predicted_as_it_was_written():
    want = predict(mlp(), rows(3), samples=4, key=KEY, keep=True).draws
    compiled = torch.compile(mlp(), backend="eager")
    compiled(rows(3))
    np.testing.assert_array_equal(predict(compiled, rows(3), samples=4, key=KEY, keep=True).draws, want)
    torch.compiler.reset()


def test_a_trace_that_would_lie_is_not_used():
    class Remembers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.seen = torch.nn.Dropout(0.5), 0

        def forward(self, x):
            self.seen += 1
            return self.drop(x) + self.seen

    with pytest.warns(UserWarning, match="depends on values that a trace cannot see"):
        predict(Remembers(), torch.ones(3, 8), samples=3, key=KEY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples must be at least 2, got 1"),
        (
            {"outputs": "logit"},
            'outputs must be "values", "logits", "probabilities" or "gaussian", got \'logit\'',
        ),
        ({"memory": 0}, "memory must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"first": -1}, r"first must be in \[0, 2\^60\), got -1: it is the number of x's first input"),
        ({"first": 2**60}, r"first must be in \[0, 2\^60\)"),
        ({"first": 2**60 - 1}, r"first=\d+ leaves numbers for 1 inputs below 2\^60, got 2: begin lower"),
        ({"batch_dim": 5}, r"batch_dim must be in \[0, 2\), a dimension of x, got 5 for \(2, 12\)"),
        ({"batch_dim": -1}, r"batch_dim must be in \[0, 2\), a dimension of x, got -1"),
        ({"tolerance": float("nan")}, "tolerance must be positive, got nan"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        predict(mlp(), rows(2), **options)


def test_inputs_that_do_not_fit_are_refused():
    for none in (rows(0), [], iter([rows(0)])):
        with pytest.raises((ValueError, TypeError), match=r"x has no inputs|x must be an array"):
            predict(mlp(), none, samples=3)
    with pytest.raises(
        ValueError, match=r"as many inputs in each of its tensors along dimension 0, got \[2, 3\]"
    ):
        predict(mlp(), (rows(2), rows(3)), samples=3)
    with pytest.raises(TypeError, match=r"x must be an array, .* got list"):
        predict(mlp(), [1.0], samples=3)


def test_a_data_frame_of_numbers_is_an_array():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(4).numpy())
    options = {"samples": 3, "key": KEY, "keep": True}
    wanted = predict(mlp(), rows(4), **options).draws
    assert np.array_equal(predict(mlp(), frame, **options).draws, wanted)
    assert np.array_equal(predict(mlp(), frame.astype("float64"), **options).draws, wanted)
    frame["name"] = "a"
    with pytest.raises(TypeError, match="x is a DataFrame with columns that are no numbers: pass those that"):
        predict(mlp(), frame, **options)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (
            (),
            'If they are scores of classes, pass outputs="logits"; if they are values, outputs="values" says',
        ),
        ((torch.nn.Softmax(dim=1),), 'If they are probabilities, pass outputs="probabilities"; if'),
    ],
)
@pytest.mark.parametrize("call", [predict, lambda model, x, **options: Predictor(model, **options)(x)])
def test_whoever_does_not_say_what_outputs_are_is_asked(layers, says, call):
    model, options = torch.nn.Sequential(mlp(), *layers), {"samples": 3, "key": KEY}
    with pytest.warns(UserWarning, match="outputs= was not given, and the 3 outputs of each") as told:
        found = call(model, rows(2), **options)
    assert says in str(told[0].message)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(call(model, rows(2), outputs="values", **options).mean, found.mean)


@pytest.mark.parametrize("shape", [(1,), (2, 3)])
def test_one_value_and_values_of_more_dimensions_are_no_classes(shape):
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Unflatten(1, shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(model, torch.ones(4, *shape).flatten(1), samples=9, key=KEY)


@pytest.mark.parametrize("kind", ["values", "logits"])
def test_complex_outputs_are_refused(kind):
    class Complex(torch.nn.Module):
        def forward(self, x):
            return torch.complex(torch.nn.functional.dropout(x, 0.5, self.training), x)

    with pytest.raises(
        TypeError, match=r"must return real numbers, got complex64: return real and imaginary"
    ):
        predict(Complex(), rows(3), samples=3, outputs=kind)


def test_what_is_not_a_number_is_never_known_well_enough():
    class Nan(torch.nn.Module):
        def forward(self, x):
            y = torch.nn.functional.dropout(x, 0.5, self.training)
            return torch.where(x[:, :1] > 0, y, torch.nan)

    x = torch.ones(2, 8)
    x[1] = -1
    found = predict(Nan(), x, samples=40, tolerance=0.5, key=KEY, keep=True)
    assert found.samples.tolist() == [10, 40]
    assert found.draws.shape == (40, 2, 8)


class LayerDrop(torch.nn.Module):
    """Skips layers by a number without a dimension, as people write it."""

    def __init__(self, number):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(12, 12) for _ in range(3))
        self.number, self.layerdrop = number, 0.4

    def forward(self, x):
        for layer in self.layers:
            if not (self.training and self.number() < self.layerdrop):
                x = layer(x)
        return x


@pytest.mark.parametrize(
    "number",
    [
        lambda: torch.rand([]),
        lambda: torch.rand(()),
        lambda: torch.rand(1),
        lambda: torch.rand(1).item(),
        lambda: torch.empty(()).uniform_(),
        lambda: 1 - torch.distributions.Bernoulli(0.4).sample(),
        lambda: 1 - torch.bernoulli(torch.tensor(0.4)),
        lambda: torch.randint(0, 10, ()) / 10,
        lambda: torch.multinomial(torch.tensor([0.4, 0.6]), 1),
    ],
)
def test_layers_are_dropped_by_numbers_without_a_dimension(number):
    x = rows(4)
    with pytest.warns(UserWarning, match="runs input by input"):
        found = predict(LayerDrop(number), x, samples=12, key=KEY, keep=True).draws
    with pytest.warns(UserWarning, match="runs input by input"):
        again = predict(LayerDrop(number), x[2:], samples=12, key=KEY, keep=True, first=2).draws
    assert np.array_equal(found[:, 2:], again)
    assert len({one.tobytes() for one in found[:, 0]}) > 2


@pytest.mark.parametrize("number", [random.random, np.random.rand])
def test_numbers_that_no_key_reaches_are_told(number):
    for _ in range(2):
        with pytest.warns(UserWarning, match=".") as caught:
            predict(LayerDrop(number), rows(3), samples=4, key=KEY)
        assert "numbers were drawn that no key reaches, so that samples are no function" in str(
            caught[0].message
        )
        assert "runs input by input" in str(caught[1].message)
    with active(LayerDrop(number)) as run, pytest.warns(UserWarning, match="that no key reaches"):
        run.model(rows(3))


def test_numbers_of_torchs_that_have_no_rule_are_drawn_by_the_key():
    class Gumbel(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.gumbel_softmax(x)

    with pytest.warns(UserWarning, match="gumbel_softmax draws from a generator, which a trace cannot seed"):
        found = predict(Gumbel(), rows(4), samples=6, key=KEY, keep=True).draws
    with pytest.warns(UserWarning, match="gumbel_softmax"):
        part = predict(Gumbel(), rows(4)[3:], samples=6, key=KEY, keep=True, first=3).draws
    assert np.array_equal(found[:, 3:], part)


def test_nothing_of_the_model_or_of_torch_is_touched():
    model, x = mlp().train(), rows(3)
    state, flags = torch.get_rng_state(), [m.training for m in model.modules()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(model, x, samples=3, key=KEY, outputs="values")
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == flags
    assert all(p.grad is None for p in model.parameters())


def test_ours_and_torchs_dropout_draw_alike():
    ours = torch.nn.Sequential(nn.Dropout(0.4), nn.DropPath(0.3))
    theirs = torch.nn.Sequential(torch.nn.Dropout(0.4), nn.StochasticDepth(0.3, "row"))
    x = torch.ones(4, 9)
    options = {"samples": 6, "key": KEY, "keep": True}
    assert np.array_equal(predict(ours, x, **options).draws, predict(theirs, x, **options).draws)
    assert functional.dropout.__wrapped__ is not functional.dropout
