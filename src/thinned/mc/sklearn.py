"""`Regressor` and `Classifier` are estimators of scikit-learn's kind around a torch model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin  # type: ignore[import-untyped]
from sklearn.utils.multiclass import check_classification_targets  # type: ignore[import-untyped]
from sklearn.utils.validation import check_is_fitted, validate_data  # type: ignore[import-untyped]

from thinned.contract import Key
from thinned.mc._prediction import Prediction
from thinned.mc._statistics import Outputs, Statistics
from thinned.mc.torch import Predictor
from thinned.torch import convert, keyed, set_step

__all__ = ["Classifier", "Regressor"]

Make = Callable[[int, int], torch.nn.Module]


def network(inputs: int, outputs: int, width: int = 64, p: float = 0.1) -> torch.nn.Module:
    """Two hidden layers with dropout, for tables."""
    layers = [torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Dropout(p)]
    layers += [torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Dropout(p)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, outputs))


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """Holds what both do: train a network with keyed masks, and average thinned ones.

    Nothing is drawn from a global generator: two fits with one `seed` are equal.
    """

    _outputs: Outputs = "values"

    def __init__(
        self,
        make: Make | None = None,
        *,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        weight_decay: float = 0.0,
        samples: int = 50,
        seed: int = 0,
    ) -> None:
        self.make = make
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.samples = samples
        self.seed = seed

    def _train(self, x: Any, y: torch.Tensor, outputs: int, loss: Callable[..., torch.Tensor]) -> None:
        self.center_, scale = x.mean(axis=0), x.std(axis=0)
        self.scale_ = np.where(scale > 0, scale, 1.0)
        data = self._scaled(x)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            made = (self.make or network)(x.shape[1], outputs)
        # A model without a dropout layer of torch.nn is trained all the same, and refused when it predicts.
        model = convert(made).model.double()
        model.train()
        optimizer = torch.optim.Adam(
            model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        sites = any(hasattr(module, "mask_key") for module in model.modules())
        keyed(model, self.seed) if sites else None
        order, step = np.random.default_rng(self.seed), 0
        for _ in range(self.epochs):
            for part in np.array_split(order.permutation(len(x)), -(-len(x) // self.batch_size)):
                set_step(model, step) if sites else None
                optimizer.zero_grad()
                loss(model(data[part]), y[part]).backward()
                optimizer.step()
                step += 1
        self.model_ = model.eval()
        self._prepare()

    def _scaled(self, x: Any) -> torch.Tensor:
        return torch.tensor((x - self.center_) / self.scale_, dtype=torch.float64)

    def _checked(self, x: Any) -> torch.Tensor:
        check_is_fitted(self, "model_")
        return self._scaled(validate_data(self, x, dtype=np.float64, reset=False))

    def _averaged(self, x: Any) -> Prediction:
        data = self._checked(x)
        return self._predictor(data, samples=self.samples)

    def _prepare(self) -> None:
        # Shared: a prediction is then a function of its row alone, wherever that stands among others.
        self._predictor = Predictor(self.model_, key=Key(self.seed), outputs=self._outputs, shared=True)

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_predictor"}

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        if "model_" in vars(self):
            self._prepare()


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """Regression with intervals, as scikit-learn's estimators have it.

    Args:
        make: a function of the numbers of inputs and outputs that makes the model, with dropout; two hidden
            layers of 64 if None.
        epochs: passes over the data, by Adam.
        batch_size: rows of a batch.
        learning_rate: of Adam.
        weight_decay: of Adam.
        samples: thinned networks that are averaged.
        seed: of weights, order and masks.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(-1, 1, 60)[:, None]
        >>> model = Regressor(epochs=20, samples=10).fit(x, x[:, 0])
        >>> mean, std = model.predict(x, return_std=True)
        >>> mean.shape, std.shape
        ((60,), (60,))
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows of numbers and their values."""
        x, targets = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2
        )
        self._one = targets.ndim == 1
        values = targets.reshape(len(x), -1).astype(np.float64)
        self.target_mean_, spread = values.mean(axis=0), values.std(axis=0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)
        scaled = torch.tensor((values - self.target_mean_) / self.target_scale_, dtype=torch.float64)
        self._train(x, scaled, values.shape[1], torch.nn.functional.mse_loss)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the thinned networks; with `return_std` their spread too, which holds no noise."""
        found = self.sample(X)
        mean, std = (one[:, 0] if self._one else one for one in (found.mean, found.std))
        return (mean, std) if return_std else mean

    def sample(self, X: Any) -> Prediction:
        """The whole prediction, in units of the targets: `interval`, `measures`, `to_pandas`."""
        found = self._averaged(X)
        errors = Statistics(
            *(one * self.target_scale_ for one in (found.standard_error.mean, found.standard_error.std))
        )
        mean, std = found.mean * self.target_scale_ + self.target_mean_, found.std * self.target_scale_
        return Prediction(mean, std, standard_error=errors, samples=found.samples)


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """Classification by averaged probabilities, as scikit-learn's estimators have it.

    Args:
        make: as of `Regressor`; the model returns logits, one for each class.
        epochs: passes over the data, by Adam.
        batch_size: rows of a batch.
        learning_rate: of Adam.
        weight_decay: of Adam.
        samples: thinned networks that are averaged.
        seed: of weights, order and masks.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(-1, 1, 60)[:, None]
        >>> Classifier(epochs=20, samples=10).fit(x, x[:, 0] > 0).predict_proba(x).shape
        (60, 2)
    """

    _outputs: Outputs = "logits"

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows of numbers and their labels."""
        x, targets = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(targets)
        self.classes_, numbers = np.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least 2 classes, got one class: {self.classes_[0]!r}")
        labels = torch.tensor(numbers.reshape(-1), dtype=torch.long)
        self._train(x, labels, len(self.classes_), torch.nn.functional.cross_entropy)
        return self

    def predict_proba(self, X: Any) -> Any:
        """The mean of the thinned networks' probabilities, shape (n, classes)."""
        return self.sample(X).mean

    def predict(self, X: Any) -> Any:
        """The likeliest class."""
        likeliest = self.predict_proba(X).argmax(axis=1)  # which says so where it is not fitted
        return self.classes_[likeliest]

    def sample(self, X: Any) -> Prediction:
        """The whole prediction: entropies, standard errors, `to_pandas`."""
        return self._averaged(X)
