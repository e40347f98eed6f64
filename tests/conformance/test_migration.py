"""docs/migration.md, row by row: theirs runs, ours runs, and ours is what the last column says."""

import importlib.util
import re
from pathlib import Path

import equinox
import flax
import flax.linen
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import thinned
import thinned.equinox
import thinned.flax
import thinned.jax
import thinned.keras
import thinned.tensorflow
import thinned.torch

TEXT = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
MODULES = {
    "equinox": equinox,
    "flax": flax,
    "jax": jax,
    "jnp": jnp,
    "keras": keras,
    "np": np,
    "tf": tf,
    "thinned": thinned,
    "torch": torch,
}
TENSOR = {
    "PyTorch": lambda x: torch.from_numpy(x.copy()),
    "TensorFlow 2": tf.constant,
    "TensorFlow 1": tf.constant,
    "Keras": keras.ops.convert_to_tensor,
    "Flax and JAX": jnp.asarray,
    "Paddle and MXNet": np.asarray,
}
X = np.linspace(1, 3, 24, dtype=np.float32).reshape(2, 3, 4)


def rows():
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        for row in re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", section, re.MULTILINE):
            yield pytest.param(title, *row, id=row[0])


def run(code, x):
    return np.asarray(eval(code, {**MODULES, "x": x, "key": thinned.Key(42)}))


def test_every_row_is_found():
    tables = TEXT[TEXT.index("## PyTorch") :]
    lines = [line for line in tables.splitlines() if line.startswith("|")]
    headings = 2 * len(TENSOR)
    assert len(list(rows())) == len(lines) - headings > 25
    assert re.findall(r"^## (.+)$", TEXT, re.MULTILINE) == list(TENSOR)


@pytest.mark.parametrize(("section", "there", "here", "said"), list(rows()))
def test_a_row(section, there, here, said):
    ours, expected = run(here, TENSOR[section](X)), run(said, X.copy())
    assert ours.dtype == X.dtype
    np.testing.assert_array_equal(ours, expected.astype(X.dtype))
    library = re.match(r"\w+", there)[0]
    if there.startswith("tf.compat.v1.layers."):
        with pytest.raises(AttributeError, match="is not available with Keras 3"):
            run(there, TENSOR[section](X))
    elif library in MODULES:
        check_theirs(run(there, TENSOR[section](X)), ours)
    else:
        assert importlib.util.find_spec(library) is None, f"{library} is installed: run its column"


def check_theirs(theirs, ours):
    """Another mask, but of the same kind: the same factor on what is kept."""
    assert theirs.shape == ours.shape
    factors = [np.unique(np.round((y / X)[y != 0], 5)) for y in (theirs, ours)]
    if all(f.size for f in factors):
        np.testing.assert_allclose(factors[0], factors[1], rtol=1e-5)
