"""torch's eager quantisation looks modules up by their exact class; this maps our layers to torch's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from thinned.torch import nn
from thinned.torch._conversion._torch_layers import plain

__all__ = ["dynamic_mapping", "static_mapping"]


def dynamic_mapping() -> dict[Any, Any]:
    """`mapping` for `torch.ao.quantization.quantize_dynamic`: torch's, with LSTM, GRU and DropConnectLinear.

    The layers to quantise have to be named too: torch's default names its own. A quantised layer evaluates,
    and has no dropout left. (`thinned.torch.strip` makes torch.nn's of these layers, which torch then finds
    by itself.)

    Returns:
        A dictionary from classes of layers to what makes their quantised ones.

    Example:
        >>> import torch, thinned, warnings
        >>> from thinned.torch import nn
        >>> warnings.simplefilter("ignore")  # torch.ao is to move to torchao
        >>> model = torch.nn.Sequential(nn.LSTM(4, 8, weight_p=0.5))
        >>> quantized = torch.ao.quantization.quantize_dynamic(
        ...     model, {torch.nn.Linear, nn.LSTM}, mapping=thinned.torch.quantization.dynamic_mapping()
        ... )
        >>> quantized[0]
        DynamicQuantizedLSTM(4, 8)
    """
    from torch.ao.nn.quantized import dynamic
    from torch.ao.quantization.quantization_mappings import get_default_dynamic_quant_module_mappings

    ours = {
        nn.LSTM: _As(dynamic.LSTM, plain),
        nn.GRU: _As(dynamic.GRU, plain),
        nn.DropConnectLinear: _As(dynamic.Linear, plain),
    }
    return {**get_default_dynamic_quant_module_mappings(), **ours}


def static_mapping() -> dict[Any, Any]:
    """`mapping` for `torch.ao.quantization.convert`, after `prepare` or `prepare_qat`: torch's, with Dropout.

    Other layers of ours that give back their input in evaluation stay as they are and let quantised tensors
    through.

    Returns:
        A dictionary from classes of layers to what makes their quantised ones.

    Raises:
        ValueError: in `convert`: `a classic Dropout evaluates to input · (1 − p) …`.

    Example:
        >>> import torch, thinned, warnings
        >>> from torch.ao import quantization
        >>> warnings.simplefilter("ignore")  # torch.ao is to move to torchao
        >>> model = torch.nn.Sequential(quantization.QuantStub(), thinned.torch.nn.Dropout(0.5))
        >>> model.qconfig = quantization.get_default_qconfig("fbgemm")
        >>> model = quantization.prepare(model.eval())
        >>> _ = model(torch.ones(3))
        >>> quantization.convert(model, thinned.torch.quantization.static_mapping())[1]
        QuantizedDropout(p=0.5, inplace=False)
    """
    from torch.ao.nn import quantized
    from torch.ao.quantization.quantization_mappings import get_default_static_quant_module_mappings

    ours = {nn.Dropout: _As(quantized.Dropout, _inverted), nn.DropConnectLinear: _As(quantized.Linear, plain)}
    return {**get_default_static_quant_module_mappings(), **ours}


@dataclass(frozen=True)
class _As:
    """Holds what torch calls in place of a quantised class: its `from_float`, of a module that it knows."""

    kind: Any
    known: Callable[[Any], torch.nn.Module]

    def from_float(self, mod: torch.nn.Module) -> Any:
        return self.kind.from_float(self.known(mod))


def _inverted(site: nn.Dropout) -> torch.nn.Module:
    if site.mode == "classic":
        raise ValueError(
            "a classic Dropout evaluates to input · (1 − p), which a quantised one does not: call "
            "thinned.torch.to_inverted(model) before prepare"
        )
    return site
