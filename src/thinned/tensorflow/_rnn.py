"""TensorFlow's DropoutWrapper is written here for any cell that has its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import tensorflow as tf

from thinned.tensorflow import _arguments, _rnn_cell, _rnn_keys, _rnn_layer, _rnn_masks
from thinned.tensorflow._rnn_masks import keeps_all
from thinned.tensorflow._types import AnyKey, DType, Flag, Scalar, Seed, Tensor


class DropoutWrapper:
    """Equivalent to `tf.compat.v1.nn.rnn_cell.DropoutWrapper` and `tf.nn.RNNCellDropoutWrapper`.

    Its probabilities are those to **keep**. A step is `output, state = wrapper(inputs, state)`; the wrapper
    is itself a cell, for `tf.compat.v1.nn.dynamic_rnn`, say. What the state keeps is the next step's; the
    output is that of before. An LSTM's c is never dropped by default.

    Each step has its own masks. With a key as `seed` a step needs to be told which it is,
    `wrapper(inputs, state, time=t)`: the number, which may be a loop's tensor, is folded in. `unroll` does
    so.

    With `variational_recurrent` the same masks serve all steps, and all samples: a mask has one entry a
    feature. Without a key as `seed`, one is drawn where the wrapper is made in a graph, at each run of it, as
    TensorFlow does. A wrapper that is made eagerly, which in TensorFlow has the same masks for life, draws
    one wherever a sequence begins: where a first state is asked for (`get_initial_state`, `zero_state`), as
    `keras.layers.RNN` and `dynamic_rnn` do, in `unroll`, and in `with wrapper.sequence():`. Where none is
    seen to begin it draws one for good, and warns.

    Around a cell that is a layer of Keras 3 or tf_keras it is a layer too, with the cell's weights and a
    configuration: `keras.layers.RNN(wrapper)` works, drops in training and evaluates otherwise. Around any
    other it is a `tf.Module`.

    Args:
        cell: has state_size, output_size and `cell(inputs, state) -> (output, new_state)`: TensorFlow 1's,
            Keras's, or one's own.
        input_keep_prob: probability in [0, 1] to keep an input feature; or a floating tensor of no dimension.
        output_keep_prob: the same for the output.
        state_keep_prob: the same for the new state.
        variational_recurrent: one mask for all steps and samples.
        input_size: features of the inputs, an integer or a shape without the batch, or a structure of these.
            It need not be given; it is checked if it is.
        dtype: of the inputs, likewise.
        seed: a `thinned.Key`, or an integer tensor of shape (2,), is the masks' key. An integer or None is
            what it is to TensorFlow: keys are drawn, at each execution anew.
        dropout_state_filter_visitor: a function of the state, and in turn of the parts of it that it says
            True of: True to drop, False to leave, or a structure of such for its parts. By default, all but
            an LSTM's c (a named tuple's field `c`, the second of a Keras LSTMCell's two) and what is no
            floating tensor.
        **kwargs: `name`, and what else a Keras layer takes if the cell is one.

    Raises:
        TypeError: `input_keep_prob must be a real number, got …`; `cell must have …`; in a call, `a key as
            seed needs the number of the step, …`.
        ValueError: `input_keep_prob must be in [0, 1], got …`; in a call, `inputs must be of input_size …`.

    Source:
        `tf.nn.RNNCellDropoutWrapper`; Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in
        Recurrent Neural Networks", NeurIPS 2016.

    Example:
        >>> import tensorflow as tf, thinned
        >>> class Sum:
        ...     state_size = output_size = 5
        ...     def __call__(self, inputs, state):
        ...         return inputs + state, inputs + state
        >>> cell = DropoutWrapper(Sum(), 1.0, 0.5, variational_recurrent=True, seed=thinned.Key(0))
        >>> outputs, state = cell.unroll(tf.ones((1, 2, 5)), tf.zeros((1, 5)))
        >>> outputs.numpy(), state.numpy()
        (array([[[2., 0., 2., 2., 0.],
                [4., 0., 4., 4., 0.]]], dtype=float32), array([[2., 2., 2., 2., 2.]], dtype=float32))
    """

    name: str
    _given: dict[str, Any]

    def __new__(cls, cell: Any = None, *args: Any, **kwargs: Any) -> Any:
        """An instance of the class that fits the cell."""
        own: Any = cls
        of_cell: Any = type(cell)
        kind = _rnn_layer.subclass(own, of_cell)
        above: Any = super(DropoutWrapper, kind)
        return (
            object.__new__(kind)
            if issubclass(kind, tf.Module)
            else above.__new__(kind, cell, *args, **kwargs)
        )

    def __init__(
        self,
        cell: Any,
        input_keep_prob: Scalar = 1.0,
        output_keep_prob: Scalar = 1.0,
        state_keep_prob: Scalar = 1.0,
        variational_recurrent: bool = False,
        input_size: Any = None,
        dtype: DType | None = None,
        seed: Seed = None,
        dropout_state_filter_visitor: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _rnn_cell.check(cell)
        if not isinstance(variational_recurrent, bool):
            raise TypeError(f"variational_recurrent must be True or False, got {variational_recurrent!r}")
        if dropout_state_filter_visitor is not None and not callable(dropout_state_filter_visitor):
            raise TypeError(
                f"dropout_state_filter_visitor must be a function, got {dropout_state_filter_visitor!r}"
            )
        self.cell = cell
        self.input_keep_prob = _arguments.probability(input_keep_prob, "input_keep_prob")
        self.output_keep_prob = _arguments.probability(output_keep_prob, "output_keep_prob")
        self.state_keep_prob = _arguments.probability(state_keep_prob, "state_keep_prob")
        self.variational_recurrent = variational_recurrent
        self._sizes = None if input_size is None else _rnn_cell.sizes(input_size)
        self._inputs_dtype = None if dtype is None else tf.as_dtype(dtype)
        self._dropout_state_filter = dropout_state_filter_visitor
        seed = _arguments.check_seed(seed)
        self.__dict__["_given"] = {"input_size": input_size, "seed": seed}  # not to be tracked by Keras
        self._keys = _rnn_keys.Keys(seed, variational_recurrent)

    def __call__(
        self,
        inputs: Any,
        state: Any,
        scope: Any = None,
        *,
        time: int | Tensor | None = None,
        training: Flag | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """Output and new state of one step.

        Args:
            inputs: tensor (B, …), or a structure of them.
            state: the cell's.
            scope: handed on to a cell of TensorFlow 1.
            time: number of the step, an integer or an integer tensor; needed with a key as `seed`.
            training: None drops, as TensorFlow's wrapper does. A bool, or a bool tensor of no dimension, also
                says so to a cell that takes it.
            **kwargs: handed on to the cell.
        """
        scope_of_layer = nullcontext() if getattr(self, "built", True) else tf.name_scope(self.name)
        with scope_of_layer:
            return self._step(self.cell, inputs, state, scope=scope, time=time, training=training, **kwargs)

    def call(self, inputs: Any, state: Any, training: Flag | None = None, **kwargs: Any) -> tuple[Any, Any]:
        """Return what a call does, by the cell's own `call`: for Keras."""
        return self._step(self.cell.call, inputs, state, training=training, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Build the cell, if it can be and is not built."""
        if hasattr(self.cell, "build") and not getattr(self.cell, "built", False):
            self.cell.build(input_shape)
        self.built = True

    def _step(
        self,
        cell: Any,
        inputs: Any,
        state: Any,
        *,
        time: int | Tensor | None = None,
        training: Flag | None = None,
        scope: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        _rnn_cell.check_inputs(inputs, self._sizes, self._inputs_dtype)
        masks = self._masks(time, True if training is None else _arguments.flag(training))
        inputs = masks.drop(inputs, self.input_keep_prob, "input")
        own = {"scope": scope, "training": training, "time": time}
        output, state = cell(inputs, state, **_rnn_cell.taken(self.cell, own), **kwargs)
        if not keeps_all(self.state_keep_prob):
            wanted = _rnn_masks.wanted(self.cell, state, self._dropout_state_filter)
            state = masks.drop_where(wanted, state, self.state_keep_prob, "state")
        return masks.drop(output, self.output_keep_prob, "output"), state

    @contextmanager
    def sequence(self, key: AnyKey | None = None) -> Iterator[None]:
        """Hold one key for the steps of a sequence that is looped over by hand.

        Args:
            key: a `thinned.Key`, or an integer tensor of shape (2,): this sequence's, instead of `seed`'s. To
                fold the number of the training step into it gives each step masks of its own.
        """
        before = self._keys.held
        held = self._keys.of_sequence(key)
        inner = self.cell.sequence() if isinstance(self.cell, DropoutWrapper) else nullcontext()
        self._keys.held = held
        try:
            with inner:
                yield
        finally:
            self._keys.held = before

    def unroll(
        self,
        inputs: Any,
        state: Any = None,
        *,
        time_major: bool = False,
        training: Flag | None = None,
        key: AnyKey | None = None,
    ) -> tuple[Any, Any]:
        """Run over a sequence of known length, with the keys that its steps and masks need.

        Args:
            inputs: (B, T, …), or (T, B, …) with time_major.
            state: the cell's first state; its own default if not given.
            time_major: whether time comes before the batch.
            training: as for a call.
            key: as for `sequence`.

        Returns:
            The outputs of all steps, laid out as the inputs, and the last state.
        """
        x = tf.convert_to_tensor(inputs)
        axis = 0 if time_major else 1
        if x.shape.rank is None or x.shape.rank < 2 or not x.shape[axis]:
            raise ValueError(
                "inputs must be (B, T, …), or (T, B, …) with time_major=True, of a known number of steps, "
                f"got shape {x.shape}: tf.compat.v1.nn.dynamic_rnn loops over an unknown one"
            )
        if state is None:
            state = self.get_initial_state(batch_size=tf.shape(x)[1 - axis], dtype=x.dtype)
        outputs = []
        with self.sequence(key):
            for time, one in enumerate(tf.unstack(x, axis=axis)):
                output, state = self(one, state, time=time, training=training)
                outputs.append(output)
        return tf.nest.map_structure(lambda *each: tf.stack(each, axis), *outputs), state

    @property
    def wrapped_cell(self) -> Any:
        """The cell inside."""
        return self.cell

    @property
    def state_size(self) -> Any:
        """The cell's."""
        return self.cell.state_size

    @property
    def output_size(self) -> Any:
        """The cell's."""
        return self.cell.output_size

    def zero_state(self, batch_size: int | Tensor, dtype: DType) -> Any:
        """The cell's, or zeros of state_size. A sequence begins."""
        self._keys.begin()
        return _rnn_cell.zero_state(self.cell, batch_size, dtype)

    def get_initial_state(
        self, inputs: Any = None, batch_size: int | Tensor | None = None, dtype: DType | None = None
    ) -> Any:
        """The cell's first state: by its own method, or zeros of state_size. A sequence begins."""
        self._keys.begin()
        return _rnn_cell.initial_state(self.cell, inputs, batch_size, dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments; the cell and a visitor as its Keras stores them, or as they are."""
        return {
            "cell": _rnn_layer.stored(self.cell, self.cell),
            "input_keep_prob": self.input_keep_prob,
            "output_keep_prob": self.output_keep_prob,
            "state_keep_prob": self.state_keep_prob,
            "variational_recurrent": self.variational_recurrent,
            "input_size": self._given["input_size"],
            "dtype": None if self._inputs_dtype is None else self._inputs_dtype.name,
            "seed": _rnn_layer.seed_config(self._given["seed"]),
            "dropout_state_filter_visitor": _rnn_layer.stored(self._dropout_state_filter, self.cell),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """A wrapper of the arguments that `get_config` gave."""
        return cls(**_rnn_layer.restored(config, custom_objects))

    def _masks(self, time: Any, drops: Any) -> _rnn_masks.Masks:
        keeps = (self.input_keep_prob, self.output_keep_prob, self.state_keep_prob)
        off = drops is False or all(keeps_all(keep) for keep in keeps)
        key = None if off else self._keys.of_step(time)
        return _rnn_masks.Masks(key, drops, self.variational_recurrent)
