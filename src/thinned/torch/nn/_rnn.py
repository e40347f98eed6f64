"""Recurrent layers drop recurrent weights and whole features here, on torch's fused path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.torch._site import Probability
from thinned.torch.nn._recurrent import Recurrent


class LSTM(Recurrent, torch.nn.LSTM):
    """Equivalent to `torch.nn.LSTM`, a subclass of it that drops recurrent weights and features.

    A sequence runs on torch's fused kernel, which is given the dropped weights; the trained ones stay the
    module's parameters, so that `state_dict` is that of torch.nn.LSTM, and a dropped weight's gradient is 0.
    Where features are locked, one mask for each sample serves all times. Without `locked`, each time has its
    own, as in torch. In evaluation all is as in torch, to the bit.

    `torch.compile` leaves a graph at every LSTM and GRU, torch's own too, and runs it as it is.

    Args:
        input_size: features of the input.
        hidden_size: features of the state.
        num_layers: how many are stacked.
        bias: whether the gates have one.
        batch_first: input and output are (B, T, F), not (T, B, F).
        dropout: drop probability in [0, 1] of the features between layers, or a schedule. Layers then run
            one by one.
        bidirectional: a second direction in every layer.
        proj_size: features of the projected output; 0 for no projection.
        device: the parameters'.
        dtype: the parameters'.
        weight_p: drop probability of single recurrent weights, `weight_hh_l…`: one mask for a call.
        input_p: drop probability of the input's features.
        output_p: drop probability of the output's features; the last state is not dropped.
        hidden_p: drop probability of whole units: of state, output and last state, at all times and in all
            samples alike. Layers then run one by one.
        locked: whether `dropout`, `input_p` and `output_p` have one mask for all times.

    Raises:
        TypeError: `weight_p must be a real number, got …`.
        ValueError: `weight_p must be in [0, 1], got …`; `hidden_p=… drops units of a state that is not
            projected …`; `input must be (T, B, F), …, got shape …`.

    Source:
        Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013; Gal and Ghahramani, "A
        Theoretically Grounded Application of Dropout in Recurrent Neural Networks", NeurIPS 2016; Merity,
        Keskar and Socher, "Regularizing and Optimizing LSTM Language Models", ICLR 2018; Moon et al.,
        "RNNDrop: A Novel Dropout for RNNs in ASR", ASRU 2015.

    Example:
        >>> layer = LSTM(10, 20, num_layers=2, dropout=0.3, weight_p=0.5, output_p=0.4)
        >>> output, (h, c) = layer(torch.randn(35, 8, 10))
        >>> dropped = output[0] == 0
        >>> bool(dropped.any()), bool((output[:, dropped] == 0).all())
        (True, True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: Probability = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        weight_p: Probability = 0.0,
        input_p: Probability = 0.0,
        output_p: Probability = 0.0,
        hidden_p: Probability = 0.0,
        locked: bool = True,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            bidirectional=bidirectional,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
            dropout=dropout,
            weight_p=weight_p,
            input_p=input_p,
            output_p=output_p,
            hidden_p=hidden_p,
            locked=locked,
        )

    def _zeros(self, input: Tensor, sizes: Tensor | None) -> tuple[Tensor, ...]:
        cell = input.new_zeros(self.get_expected_cell_size(input, sizes))
        return (*super()._zeros(input, sizes), cell)


class GRU(Recurrent, torch.nn.GRU):
    """Equivalent to `torch.nn.GRU`, a subclass of it that drops recurrent weights and features.

    See `LSTM`, from which it differs in its cell alone.

    Args:
        input_size: features of the input.
        hidden_size: features of the state.
        num_layers: how many are stacked.
        bias: whether the gates have one.
        batch_first: input and output are (B, T, F), not (T, B, F).
        dropout: drop probability in [0, 1] of the features between layers, or a schedule.
        bidirectional: a second direction in every layer.
        device: the parameters'.
        dtype: the parameters'.
        weight_p: drop probability of single recurrent weights, `weight_hh_l…`: one mask for a call.
        input_p: drop probability of the input's features.
        output_p: drop probability of the output's features; the last state is not dropped.
        hidden_p: drop probability of whole units: of state, output and last state, at all times and in all
            samples alike. Layers then run one by one.
        locked: whether `dropout`, `input_p` and `output_p` have one mask for all times.
        proj_size: not to be given: it is an LSTM's.

    Raises:
        TypeError: `weight_p must be a real number, got …`.
        ValueError: `weight_p must be in [0, 1], got …`; `proj_size is LSTM's, …`; `input must be (T, B, F),
            …, got shape …`.

    Source:
        As for `LSTM`.

    Example:
        >>> layer = GRU(10, 20, weight_p=0.5, input_p=0.2, batch_first=True)
        >>> output, h = layer(torch.randn(8, 35, 10))
        >>> output.shape, h.shape
        (torch.Size([8, 35, 20]), torch.Size([1, 8, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: Probability = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        weight_p: Probability = 0.0,
        input_p: Probability = 0.0,
        output_p: Probability = 0.0,
        hidden_p: Probability = 0.0,
        locked: bool = True,
        proj_size: None = None,
    ) -> None:
        if proj_size is not None:
            raise ValueError(f"proj_size is LSTM's, and a GRU has none, got {proj_size!r}: use LSTM")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            bidirectional=bidirectional,
            device=device,
            dtype=dtype,
            dropout=dropout,
            weight_p=weight_p,
            input_p=input_p,
            output_p=output_p,
            hidden_p=hidden_p,
            locked=locked,
        )
