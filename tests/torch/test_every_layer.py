"""What every layer of `thinned.torch.nn` rules alike: its rate, its key, its class and its text."""

import math

import pytest
import torch
from torch_sites import LAYERS

from thinned import Key
from thinned.torch import keyed, nn, set_step
from thinned.torch._site import Site

RATE_FIRST = (
    *("AlphaDropout", "DropConnect", "DropHead", "DropKey", "DropMessage", "DropNode", "DropPath", "Dropout"),
    *("Dropout1d", "Dropout2d", "Dropout3d", "DropoutAdd", "FeatureAlphaDropout", "GaussianDropout"),
    *("PatchDropout", "ScaledDotProductAttention", "ShakeDrop", "DropEdge"),
)
MADE = {
    **{name: getattr(nn, name) for name in RATE_FIRST},
    **{f"DropBlock{n}d": lambda p, n=n: getattr(nn, f"DropBlock{n}d")(p, 2) for n in (1, 2, 3)},
    "DropConnectLinear": lambda p: nn.DropConnectLinear(6, 5, p=p),
    "DropoutAddLayerNorm": lambda p: nn.DropoutAddLayerNorm(6, p),
    "DropoutAddRMSNorm": lambda p: nn.DropoutAddRMSNorm(6, p),
    "EmbeddingDropout": lambda p: nn.EmbeddingDropout(torch.nn.Embedding(3, 2), p),
    "LayerDrop": lambda p: nn.LayerDrop([torch.nn.Tanh()], p),
    "LockedDropout": lambda p: nn.LockedDropout(p, batch_first=True),
    "MultiSampleDropout": lambda p: nn.MultiSampleDropout(torch.nn.Linear(6, 5), p, 3),
    "MultiheadAttention": lambda p: nn.MultiheadAttention(8, 4, p),
    "SpatialDropout": lambda p: nn.SpatialDropout(p, "NLD", "NL"),
    "StochasticDepth": lambda p: nn.StochasticDepth(p, "row"),
    "WordDropout": lambda p: nn.WordDropout(p, 0),
    "ZoneoutCell": lambda p: nn.ZoneoutCell(torch.nn.GRUCell(6, 5), p),
    **{
        f"{kind.__name__}, {name}": lambda p, kind=kind, name=name: kind(6, 5, 2, **{name: p})
        for kind in (nn.LSTM, nn.GRU)
        for name in ("weight_p", "input_p", "output_p", "dropout")
    },
    **{
        f"DropoutWrapper, {name}": lambda p, name=name: nn.DropoutWrapper(torch.nn.GRUCell(6, 5), **{name: p})
        for name in ("input_keep_prob", "output_keep_prob", "state_keep_prob")
    },
}


@pytest.mark.parametrize("name", MADE)
def test_a_rate_is_a_number_from_0_to_1(name):
    for p in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"(\w*p|\w+_prob|dropout) must be in \[0, 1\], got"):
            MADE[name](p)
    for p in (True, "0.5"):
        with pytest.raises(TypeError, match=r"(\w*p|\w+_prob|dropout) must be a real number"):
            MADE[name](p)


@pytest.mark.parametrize("name", [name for name in LAYERS if isinstance(LAYERS[name].make(), Site)])
def test_a_layers_key_is_that_of_seed_name_step_and_call(name):
    model, x = torch.nn.ModuleDict({"site": LAYERS[name].make()}), LAYERS[name].inputs()
    site = keyed(model, 3)["site"]
    taken = "dropout_key" if hasattr(site, "dropout_p") or name == "MultiheadAttention" else "key"
    set_step(model, 2)
    for more, key in (({}, Key(3).fold("site").fold(2)), ({"call": 5}, Key(3).fold("site").fold(2).fold(5))):
        found, expected = (torch.utils._pytree.tree_leaves(site(*x, **each)) for each in (more, {taken: key}))
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("name", [name for name in LAYERS if hasattr(torch.nn, name) and name in RATE_FIRST])
def test_torchs_layers_are_torchs_own_by_type_name_and_state(name):
    ours, theirs = getattr(nn, name)(0.3, inplace=True), getattr(torch.nn, name)(0.3, inplace=True)
    assert isinstance(ours, type(theirs))
    assert repr(ours) == repr(theirs)
    assert ours.state_dict() == {}


SHOWN = {
    "DropConnect(p=0.25)": lambda: nn.DropConnect(0.25),
    "DropBlock2d(p=0.1, block_size=7, inplace=False)": lambda: nn.DropBlock2d(0.1, 7),
    "DropPath(p=0.5)": lambda: nn.DropPath(0.5),
    "DropPath(p=0.5, scale_by_keep=False)": lambda: nn.DropPath(0.5, False),
    "DropoutAdd(p=0.5)": lambda: nn.DropoutAdd(0.5),
    "GaussianDropout(p=0.3, inplace=False)": lambda: nn.GaussianDropout(0.3),
    "LockedDropout(p=0.3, batch_first=True)": lambda: nn.LockedDropout(0.3, batch_first=True),
    "ScaledDotProductAttention(dropout_p=0.1)": lambda: nn.ScaledDotProductAttention(0.1),
    "ScaledDotProductAttention(dropout_p=0.1, is_causal=True, enable_gqa=True)": lambda: (
        nn.ScaledDotProductAttention(0.1, True, enable_gqa=True)
    ),
    "StochasticDepth(p=0.5, mode=batch)": lambda: nn.StochasticDepth(0.5, "batch"),
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_layer_shows_what_it_was_made_with(text):
    assert repr(SHOWN[text]()) == text
