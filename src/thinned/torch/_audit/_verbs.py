"""This file lists the functions that drop, with their rate, their mode and what their mask shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from thinned._audit import CHANNELS, ELEMENTS, OTHER, PATHS
from thinned.torch import functional as ours


@dataclass(frozen=True)
class Verb:
    """Says where a function takes its rate and its mode, and what its mask shares."""

    rate: tuple[int, str, Any]  # position, keyword, default
    training: tuple[int, str, Any] | None
    kind: str


VERBS: dict[Callable[..., Any], Verb] = {
    F.dropout: Verb((1, "p", 0.5), (2, "training", True), ELEMENTS),
    F.dropout1d: Verb((1, "p", 0.5), (2, "training", True), CHANNELS),
    F.dropout2d: Verb((1, "p", 0.5), (2, "training", True), CHANNELS),
    F.dropout3d: Verb((1, "p", 0.5), (2, "training", True), CHANNELS),
    F.alpha_dropout: Verb((1, "p", 0.5), (2, "training", False), OTHER),
    F.feature_alpha_dropout: Verb((1, "p", 0.5), (2, "training", False), OTHER),
    F.scaled_dot_product_attention: Verb((4, "dropout_p", 0.0), None, OTHER),
    F.multi_head_attention_forward: Verb((10, "dropout_p", 0.0), (13, "training", True), OTHER),
    torch.dropout: Verb((1, "p", 0.5), (2, "train", True), ELEMENTS),
    ours.dropout: Verb((1, "p", 0.5), (2, "training", True), ELEMENTS),
    ours.dropout1d: Verb((1, "p", 0.5), (2, "training", True), CHANNELS),
    ours.dropout2d: Verb((1, "p", 0.5), (2, "training", True), CHANNELS),
    ours.dropout3d: Verb((1, "p", 0.5), (2, "training", True), CHANNELS),
    ours.locked_dropout: Verb((1, "p", 0.5), (2, "training", True), OTHER),
    ours.drop_path: Verb((1, "p", 0.5), (2, "training", True), PATHS),
    ours.alpha_dropout: Verb((1, "p", 0.5), (2, "training", True), OTHER),
    ours.gaussian_dropout: Verb((1, "p", 0.5), (2, "training", True), OTHER),
    ours.scaled_dot_product_attention: Verb((4, "dropout_p", 0.0), (-1, "training", True), OTHER),
}
# Dropout is a part of these, of unknown size.
ATTENTION = {
    F.scaled_dot_product_attention,
    F.multi_head_attention_forward,
    ours.scaled_dot_product_attention,
}
