"""Which versions `make compat` examines, and by which tests of the quick tier."""

from __future__ import annotations

from typing import NamedTuple

CONTRACT = ("contract", "numpy")
JAX = (*CONTRACT, "jax/test_dropout.py", "jax/test_transforms.py")
TORCH = ("test_dropout", "test_operator", "test_func", "test_edge_cases", "test_rnn", "test_keyed", "test_nested")


class Row(NamedTuple):
    """An environment: what is installed, what of it is shown, and the folders and files of tests."""

    name: str
    packages: tuple[str, ...]
    tests: tuple[str, ...]
    python: str = "3.11"
    environment: tuple[tuple[str, str], ...] = ()
    unavailable: str = ""  # why it cannot be installed from a registry, where that is known


def _keras(version: str, backend: str, *packages: str) -> Row:
    files = tuple(f"keras/{name}.py" for name in ("masks", "rules", "models", "seams", "audits"))
    name = f"Keras {version} on {backend}"
    return Row(name, (f"keras{version}", *packages), files, environment=(("KERAS_BACKEND", backend),))


_GPU_WHEELS = "its wheels for Linux bring gigabytes of CUDA"

ROWS = [
    Row("NumPy oldest", ("numpy==1.26.0",), CONTRACT),
    Row("NumPy newest", ("numpy",), CONTRACT),
    Row("Python 3.12", ("numpy", "jax", "jaxlib"), JAX, "3.12"),
    Row("Python 3.13", ("numpy", "jax", "jaxlib"), JAX, "3.13"),
    Row("Python 3.12, NumPy oldest", ("numpy==1.26.0",), CONTRACT, "3.12"),
    Row("JAX below the floor", ("jax==0.9.2", "jaxlib==0.9.2"), JAX),
    Row("JAX oldest", ("jax==0.10.0", "jaxlib==0.10.0"), JAX),
    Row("JAX newest", ("jax", "jaxlib"), JAX),
    Row("Flax below the floor", ("flax==0.12.5", "jax"), ("flax",)),
    Row("Flax oldest", ("flax==0.12.6", "jax"), ("flax",)),
    Row("Flax newest", ("flax", "jax"), ("flax",)),
    Row("Equinox below the floor", ("equinox==0.13.5", "jax"), ("equinox",)),
    Row("Equinox oldest", ("equinox==0.13.6", "jax"), ("equinox",)),
    Row("Equinox newest", ("equinox", "jax"), ("equinox",)),
    _keras("==3.14.1", "jax", "jax"),
    _keras("==3.15.0", "jax", "jax"),
    _keras("", "jax", "jax"),
    Row("TensorFlow below the floor", ("tensorflow-cpu==2.20.0", "keras"), ("tensorflow",)),
    Row("TensorFlow oldest", ("tensorflow-cpu==2.21.0", "keras==3.15.0"), ("tensorflow",)),
    Row("TensorFlow newest", ("tensorflow-cpu", "keras"), ("tensorflow",)),
    Row("torch oldest", ("torch==2.6.0",), (), unavailable=_GPU_WHEELS),
    Row("torch newest", ("torch==2.13.0",), (*CONTRACT, *(f"torch/{name}.py" for name in TORCH))),
    Row("Triton oldest", ("triton==3.7.0", "torch==2.13.0"), ("triton/test_kernels.py",)),
    Row("Triton newest", ("triton", "torch==2.13.0"), ("triton/test_kernels.py",)),
]
