"""Breaks of Keras's layers."""

from __future__ import annotations

from breaks import of

BREAKS = of(
    "src/thinned/keras",
    [
        (
            "the mask of Keras's attention without projections",
            "_scores.py",
            "self.mask_key(), True)",
            "self.mask_key().fold(0), True)",
            "keras/test_backends.py::test_checks[torch]",
        ),
        (
            "the counter of Keras's calls",
            "_site.py",
            "active.assign(generator.state, state + np.array([0, 1], state.dtype))",
            "active.assign(generator.state, state)",
            "keras/test_backends.py::test_checks[torch]",
        ),
        (
            "the counter of Keras's compiled calls on JAX",
            "_backend/jax.py",
            "return _key.fold(_key.fold(jnp.stack([state[0], none, none, none]), name), state[1])",
            "return _key.fold(_key.fold(jnp.stack([state[0], none, none, none]), name), none)",
            "keras/test_backends.py::test_checks[jax]",
        ),
        (
            "what Keras's channels share",
            "_spatial.py",
            "return (None, *(1,) * (rank - 2), None)",
            "return (*(1,) * (rank - 1), None)",
            "keras/test_backends.py::test_checks[torch]",
        ),
    ],
)
