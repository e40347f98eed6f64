"""This package has dropout as functions of tensors, in the manner of `torch.nn.functional`.

A verb takes tensors, `training` and a key, and is offered to torch's overrides. Each file has one family;
`nn` has the layers of the same names.
"""

from thinned.torch.functional._alpha import alpha_dropout, feature_alpha_dropout
from thinned.torch.functional._attention import scaled_dot_product_attention
from thinned.torch.functional._block import drop_block1d, drop_block2d, drop_block3d
from thinned.torch.functional._boxes import cutout, mask_spans
from thinned.torch.functional._channels import dropout1d, dropout2d, dropout3d, spatial_dropout
from thinned.torch.functional._depth import drop_path, layer_drop, stochastic_depth
from thinned.torch.functional._dropout import dropout, keep_mask
from thinned.torch.functional._gaussian import gaussian_dropout
from thinned.torch.functional._graph import drop_edge, drop_message, drop_node
from thinned.torch.functional._heads_and_keys import drop_head, drop_key
from thinned.torch.functional._learned import concrete_dropout, standout
from thinned.torch.functional._locked import locked_dropout
from thinned.torch.functional._residual import dropout_add, dropout_add_layer_norm, dropout_add_rms_norm
from thinned.torch.functional._shake import shake_drop, shake_shake
from thinned.torch.functional._tokens import embedding_dropout, patch_dropout, word_dropout
from thinned.torch.functional._variational import variational_conv, variational_dropout, variational_linear
from thinned.torch.functional._weights import drop_connect_linear, mixout
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
