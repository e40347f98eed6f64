"""Dropout as functions of tensors, in the manner of `torch.nn.functional`.

A verb takes tensors, `training` and a key, and is offered to torch's overrides. Each file has one family;
`nn` has the layers of the same names.
"""

from thinned.torch.functional._alpha import alpha_dropout, feature_alpha_dropout
from thinned.torch.functional._attention import scaled_dot_product_attention
from thinned.torch.functional._block import drop_block1d, drop_block2d, drop_block3d
from thinned.torch.functional._boxes import cutout, mask_spans
from thinned.torch.functional._channels import dropout1d, dropout2d, dropout3d
from thinned.torch.functional._concrete import concrete_dropout
from thinned.torch.functional._connect import drop_connect_linear
from thinned.torch.functional._drop_key import drop_key
from thinned.torch.functional._dropout import dropout, keep_mask
from thinned.torch.functional._embedding import embedding_dropout
from thinned.torch.functional._gaussian import gaussian_dropout
from thinned.torch.functional._graph import drop_edge, drop_message, drop_node
from thinned.torch.functional._head import drop_head
from thinned.torch.functional._layer import layer_drop
from thinned.torch.functional._locked import locked_dropout
from thinned.torch.functional._mixout import mixout
from thinned.torch.functional._norm import dropout_add_layer_norm, dropout_add_rms_norm
from thinned.torch.functional._patch import patch_dropout
from thinned.torch.functional._path import drop_path, stochastic_depth
from thinned.torch.functional._residual import dropout_add
from thinned.torch.functional._shake import shake_drop, shake_shake
from thinned.torch.functional._spatial import spatial_dropout
from thinned.torch.functional._standout import standout
from thinned.torch.functional._variational import variational_dropout, variational_linear
from thinned.torch.functional._variational_conv import variational_conv
from thinned.torch.functional._word import word_dropout
from thinned.torch.functional._zoneout import zoneout

__all__ = [
    "alpha_dropout",
    "concrete_dropout",
    "cutout",
    "drop_block1d",
    "drop_block2d",
    "drop_block3d",
    "drop_connect_linear",
    "drop_edge",
    "drop_head",
    "drop_key",
    "drop_message",
    "drop_node",
    "drop_path",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "dropout_add_layer_norm",
    "dropout_add_rms_norm",
    "embedding_dropout",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "keep_mask",
    "layer_drop",
    "locked_dropout",
    "mask_spans",
    "mixout",
    "patch_dropout",
    "scaled_dot_product_attention",
    "shake_drop",
    "shake_shake",
    "spatial_dropout",
    "standout",
    "stochastic_depth",
    "variational_conv",
    "variational_dropout",
    "variational_linear",
    "word_dropout",
    "zoneout",
]


def __dir__() -> list[str]:
    return sorted(__all__)
