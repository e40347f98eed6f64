"""Blocks of vision transformers, written as timm 1.0 and torchvision 0.27 have them, through `convert`."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thinned import Key, mc
from thinned.torch import convert, keyed, keys, set_step, unconvert
from thinned.torch import nn as ours


class Attention(nn.Module):
    """timm's, which hands the p of a module to a fused function."""

    def __init__(self, dim, num_heads, attn_drop, proj_drop):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.fused_attn = True
        self.qkv = nn.Linear(dim, dim * 3)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x):
        batch, time, width = x.shape
        qkv = self.qkv(x).reshape(batch, time, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused_attn:
            p = self.attn_drop.p if self.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        else:
            x = self.attn_drop((q * self.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(dim=-1)) @ v
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(batch, time, width)))


class TimmBlock(nn.Module):
    def __init__(self, dim=16, attn_drop=0.0, proj_drop=0.1):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, 2, attn_drop, proj_drop)
        self.ls1 = nn.Identity()
        self.mlp = nn.Sequential(
            *(nn.Linear(dim, 24), nn.GELU(), nn.Dropout(proj_drop)),
            *(nn.Linear(24, dim), nn.Dropout(proj_drop)),
        )

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class MLPBlock(nn.Sequential):
    """torchvision's, whose layers have numbers for names."""

    def __init__(self, dim, hidden, p):
        super().__init__(
            *(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(p, inplace=False)),
            *(nn.Linear(hidden, dim), nn.Dropout(p, inplace=False)),
        )


class EncoderBlock(nn.Module):
    """torchvision's, around torch's attention, called with its weights unasked."""

    def __init__(self, dim=16, dropout=0.1, attention_dropout=0.2):
        super().__init__()
        self.num_heads = 2
        self.ln_1, self.ln_2 = (functools.partial(nn.LayerNorm, eps=1e-6)(dim) for _ in range(2))
        self.self_attention = nn.MultiheadAttention(dim, 2, dropout=attention_dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.mlp = MLPBlock(dim, 24, dropout)

    def forward(self, input):
        x = self.ln_1(input)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = self.dropout(x) + input
        return x + self.mlp(self.ln_2(x))


class LoraLinear(nn.Module):
    """As PEFT wraps a linear layer: its dropout is a plain module of a dictionary."""

    def __init__(self, base, rank=2, p=0.3):
        super().__init__()
        self.base_layer = base
        self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(p)})
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})

    def forward(self, x):
        low = self.lora_A["default"](self.lora_dropout["default"](x))
        return self.base_layer(x) + self.lora_B["default"](low)


def lora():
    block = EncoderBlock()
    block.mlp[0] = LoraLinear(block.mlp[0])
    return block


def unfused():
    block = TimmBlock(attn_drop=0.2)
    block.attn.fused_attn = False
    return block


BLOCKS = {
    "timm": TimmBlock,
    "timm, attention not fused": unfused,
    "torchvision": EncoderBlock,
    "with LoRA": lora,
}


def build(name):
    torch.manual_seed(1)
    model = nn.Sequential(BLOCKS[name](), BLOCKS[name]())
    return model, torch.randn(3, 5, 16)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_keyed_completely(name):
    model, x = build(name)
    with torch.no_grad():
        expected = model.eval()(x)
        report = convert(model)
        assert torch.equal(model(x), expected)
        assert report.left == {}
        assert set(report.possible) <= {"0.attn", "1.attn"}, "those whose p is 0"
        keyed(model.train(), 5, check=x)
        first, other = model(x), set_step(model, 1)(x)
        assert torch.equal(set_step(model, 0)(x), first)
        assert not torch.equal(first, other)
        with mc.active(model, key=Key(1)):
            assert not torch.equal(model(x), model(x))
        assert not unconvert(keyed(model, None)).left
        assert torch.equal(model.eval()(x), expected)


def test_torchvisions_attention_is_ours():
    model, _ = build("torchvision")
    convert(model)
    assert type(model[1].self_attention) is ours.MultiheadAttention


def test_timms_fused_attention_is_named_with_its_remedies():
    model, x = nn.Sequential(TimmBlock(attn_drop=0.2)), torch.randn(3, 5, 16)
    suspect = convert(model).possible["0.attn"]
    assert "calls F.scaled_dot_product_attention" in suspect
    assert "where its fused_attn is False, its dropout is called as a module" in suspect
    with pytest.warns(UserWarning, match=r"0\.attn \(Attention\): bernoulli_"):
        keyed(model, 5, check=x)
    with torch.no_grad(), keys(model, 5) as run:
        fused = model(x)
    assert not run.unkeyed
    model[0].attn.fused_attn = False
    with torch.no_grad():
        assert not torch.equal(keyed(model, 5, check=x)(x), fused), "another name, and so another mask"
