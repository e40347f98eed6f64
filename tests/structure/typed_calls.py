"""What type checkers have to refuse and to accept; read by mypy with the sources, never run.

`training` has no default for them. mypy's `warn_unused_ignores` holds that each of these calls is an error.
"""

import jax.numpy as jnp
import numpy as np
import torch

import thinned
from thinned import Key, jax, keras, tensorflow
from thinned.torch import functional

x = np.ones(3)
thinned.dropout(x, 0.5, key=Key(0))  # type: ignore[call-arg]
jax.dropout(jnp.ones(3), 0.5, key=Key(0))  # type: ignore[call-arg]
tensorflow.dropout(x, 0.5, key=Key(0))  # type: ignore[call-arg]
tensorflow.nn.drop_connect(x, 0.5)  # type: ignore[call-arg]
keras.dropout(x, 0.5, key=Key(0))  # type: ignore[call-arg]
functional.dropout(torch.ones(3), 0.5)  # type: ignore[call-overload]
functional.drop_path(torch.ones(3), 0.5)  # type: ignore[call-overload]
functional.zoneout(torch.ones(3), torch.ones(3), 0.5)  # type: ignore[call-arg]
functional.alpha_dropout(torch.ones(3))  # type: ignore[call-overload]
functional.dropout_add(torch.ones(3), torch.ones(3), 0.5)  # type: ignore[call-overload]

array = jax.dropout(np.ones(3), rate=0.5, key=jnp.zeros(4, np.uint32), training=True).astype(int)
tensor: torch.Tensor = functional.dropout(torch.ones(3), training=True, key=Key(0))
tensor = functional.dropout(torch.ones(3), 0.5, True, noise_shape=(1,))
tensor = functional.drop_path(torch.ones(3), drop_prob=0.5, training=True)
