"""Breaks of Keras's layers."""

from breaks import of

BREAKS = of(
    "src/thinned/keras",
    """
the mask of Keras's attention without projections | _scores.py | keras/test_backends.py::test_checks[torch]
-self.mask_key(), True)
+self.mask_key().fold(0), True)

the counter of Keras's calls | _site.py | keras/test_backends.py::test_checks[torch]
-active.assign(generator.state, state + np.array([0, 1], state.dtype))
+active.assign(generator.state, state)

the counter of Keras's compiled calls on JAX | _backend/jax.py | keras/test_backends.py::test_checks[jax]
-return _key.fold(_key.fold(jnp.stack([state[0], none, none, none]), name), state[1])
+return _key.fold(_key.fold(jnp.stack([state[0], none, none, none]), name), none)

what Keras's channels share | _spatial.py | keras/test_backends.py::test_checks[torch]
-return (None, *(1,) * (rank - 2), None)
+return (*(1,) * (rank - 1), None)
""",
)
