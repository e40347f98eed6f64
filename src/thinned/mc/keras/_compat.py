"""Keras's private names that prediction takes over, each with its purpose; a message if one is gone."""

from __future__ import annotations

from typing import Any

import keras

try:
    # The backend's `random.dropout`, by which attention and cells of Keras's draw.
    from keras.src import backend as backend

    # What keeps a recurrent cell's masks for a sequence.
    from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell as DropoutRNNCell

    # Models whose nodes can be walked, so that what precedes the first mask runs once.
    from keras.src.models.functional import Functional as Functional
except ImportError as _error:
    raise ImportError(
        f"thinned.mc.keras needs {_error}, which Keras {keras.__version__} lacks: install a version that "
        'this version of thinned was tested with, pip install "keras==3.15.*"'
    ) from None


def torch_device() -> Any:
    """The device of Keras's PyTorch backend; PyTorch's default one where Keras does not say."""
    import torch

    try:
        from keras.src.backend.torch.core import get_device
    except ImportError:
        return torch.get_default_device()
    return get_device()
