"""scikit-learn's own checks of estimators, all of those that apply."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from thinned.mc.sklearn import Classifier, Regressor


@pytest.mark.parametrize(
    ("kind", "method"),
    [(Regressor, "predict"), (Regressor, "sample"), (Classifier, "predict"), (Classifier, "predict_proba")],
)
def test_an_estimator_that_was_not_fitted_says_so(kind, method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(kind(), method)(np.ones((3, 2)))


@pytest.mark.full  # about fifty checks of each, most of which train: 40 s
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [Regressor, Classifier])
def test_scikit_learns_checks(kind):
    found = check_estimator(kind(epochs=60, samples=20), on_fail=None)
    assert [one["check_name"] for one in found if one["status"] == "failed"] == []


@pytest.mark.full
def test_a_fit_is_a_function_of_its_seed_and_is_pickled():
    x = np.linspace(-1, 1, 40)[:, None]
    first, second, other = (Regressor(epochs=5, samples=5, seed=n).fit(x, x[:, 0]) for n in (1, 1, 2))
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    assert (first.predict(x) != other.predict(x)).any()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(x), first.predict(x))
