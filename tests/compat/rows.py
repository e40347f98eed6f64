"""Which versions `make compat` examines, and by which tests of the quick tier."""

from __future__ import annotations

from typing import NamedTuple

CONTRACT = ("contract", "numpy")


def _tests(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/test_{name}.py" for name in names)


JAX = _tests("jax", "compat", "dropout", "mesh", "transforms")
FLAX = _tests("flax", "nnx", "linen", "parts")
TENSORFLOW = _tests("tensorflow", "dropout", "operator", "nn", "connect", "saved_model")
TORCH = _tests(
    "torch", "dropout", "operator", "func", "edge_cases", "rnn", "keyed", "nested", "convert", "keys"
)
TRITON = ("triton/test_kernels.py",)


class Row(NamedTuple):
    """An environment: what is installed, what of it is shown, and the folders and files of tests."""

    name: str
    packages: tuple[str, ...]
    tests: tuple[str, ...]
    python: str = "3.11"
    environment: tuple[tuple[str, str], ...] = ()
    unavailable: str = ""  # why it cannot be installed from a registry, where that is known


KERAS = tuple(f"keras/{name}.py" for name in ("masks", "rules", "models", "audits"))
ON_JAX = (("KERAS_BACKEND", "jax"),)
_GPU_WHEELS = "its wheels for Linux bring gigabytes of CUDA"

# The newest versions want a Python newer than the oldest that this library takes.
NEW = "3.13"
ROWS = [
    Row("NumPy oldest", ("numpy==1.26.0",), CONTRACT),
    Row("NumPy oldest, Python 3.12", ("numpy==1.26.0",), CONTRACT, "3.12"),
    Row("NumPy newest", ("numpy",), CONTRACT, NEW),
    Row("JAX below the floor", ("jax==0.9.2", "jaxlib==0.9.2"), JAX),
    Row("JAX oldest", ("jax==0.10.0", "jaxlib==0.10.0"), JAX),
    Row("JAX newest for Python 3.11", ("jax", "jaxlib"), JAX),
    Row("JAX newest, Python 3.12", ("jax", "jaxlib"), JAX, "3.12"),
    Row("JAX newest", ("jax", "jaxlib"), JAX, NEW),
    Row("Flax below the floor", ("flax==0.12.5", "jax"), FLAX),
    Row("Flax oldest", ("flax==0.12.6", "jax"), FLAX),
    Row("Flax newest", ("flax", "jax"), FLAX, NEW),
    Row("Equinox below the floor", ("equinox==0.13.5", "jax"), ("equinox",)),
    Row("Equinox oldest", ("equinox==0.13.6", "jax"), ("equinox",)),
    Row("Equinox newest", ("equinox", "jax"), ("equinox",), NEW),
    Row("Keras below the floor", ("keras==3.14.1", "jax"), KERAS, environment=ON_JAX),
    Row("Keras oldest", ("keras==3.15.0", "jax"), KERAS, environment=ON_JAX),
    Row("Keras newest", ("keras", "jax"), KERAS, NEW, ON_JAX),
    Row("TensorFlow below the floor", ("tensorflow-cpu==2.20.0", "keras"), TENSORFLOW),
    Row("TensorFlow newest", ("tensorflow-cpu", "keras"), TENSORFLOW, NEW),
    Row("torch oldest", ("torch==2.6.0",), (), unavailable=_GPU_WHEELS),
    Row("torch newest", ("torch==2.13.0",), TORCH),
    Row("Triton oldest", ("triton==3.7.0", "torch==2.13.0"), TRITON),
    Row("Triton newest", ("triton", "torch==2.13.0"), TRITON),
]
