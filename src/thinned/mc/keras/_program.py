"""A model is cut here before its first stochastic layer: the first part runs once for all samples."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops, tree

from thinned.keras import _compat
from thinned.mc.keras import _patching

Parts = list[Any]


class Whole:
    """Any model: nothing of it is known to come before."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def front(self, x: Any) -> Parts:
        """The inputs themselves."""
        return [ops.convert_to_tensor(leaf) for leaf in tree.flatten(x)]

    def back(self, parts: Parts, structure: Any) -> Any:
        """All of the model."""
        return self.model(tree.pack_sequence_as(structure, parts), training=False)


class Graph:
    """A functional model's nodes in their order: those that no stochastic one comes before, and the rest."""

    def __init__(self, model: Any) -> None:
        self.functional = functional = _graph(model)
        self.first: list[Any] = []
        self.then: list[Any] = []
        depths = _compat.nodes_by_depth(functional)
        for node in (node for depth in sorted(depths, reverse=True) for node in depths[depth]):
            if node.operation and not node.is_input:
                self._place(node)
        made = {id(x) for node in self.then for x in node.outputs}
        used = [x for node in self.then for x in node.input_tensors] + list(functional.outputs)
        # Tensors between the parts, each once.
        self.between = list({id(x): x for x in used if id(x) not in made}.values())

    def _place(self, node: Any) -> None:
        made = {id(x) for other in self.then for x in other.outputs}
        late = _draws(node.operation) or any(id(x) in made for x in node.input_tensors)
        (self.then if late else self.first).append(node)

    def front(self, x: Any) -> Parts:
        """Gives what the rest needs: tensors, and the masks that Keras has put on them."""
        inputs = _compat.standardize(self.functional)(x)
        values = {id(k): v for k, v in zip(self.functional.inputs, inputs, strict=True)}
        _run(self.first, values)
        found = [values[id(k)] for k in self.between]
        return found + [_compat.backend.get_keras_mask(v) for v in found]

    def back(self, parts: Parts, structure: Any) -> Any:
        """The model's outputs."""
        found, masks = parts[: len(self.between)], parts[len(self.between) :]
        for value, mask in zip(found, masks, strict=True):
            if mask is not None:
                _compat.backend.set_keras_mask(value, mask)
        values = {id(k): v for k, v in zip(self.between, found, strict=True)}
        _run(self.then, values)
        outputs = [values[id(k)] for k in self.functional.outputs]
        return tree.pack_sequence_as(_compat.outputs_structure(self.functional), outputs)


def program(model: Any) -> Whole | Graph:
    """Cuts the model in two parts if it is a graph of layers whose batch has any size."""
    functional = _graph(model)
    ends = [] if functional is None else [*functional.inputs, *functional.outputs]
    if functional is None or any(not k.shape or k.shape[0] is not None for k in ends):
        return Whole(model)
    graph = Graph(model)
    return graph if all(k.shape and k.shape[0] is None for k in graph.between) else Whole(model)


def _graph(model: Any) -> Any:
    """The graph of a model that is one and does nothing else; None of any other."""
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        return _compat.graph_of(model)
    graph = _compat.Functional
    return model if isinstance(model, graph) and type(model).call is graph.call else None


def _draws(operation: Any) -> bool:
    return isinstance(operation, keras.Layer) and any(map(_patching.stochastic, _patching.layers(operation)))


def _run(nodes: list[Any], values: dict[int, Any]) -> None:
    for node in nodes:
        args, kwargs = node.arguments.fill_in(values)
        if "training" in _compat.context_arguments(node.operation):
            kwargs["training"] = False
        outputs = tree.flatten(node.operation(*args, **kwargs))
        values.update((id(k), v) for k, v in zip(node.outputs, outputs, strict=True))
