"""Models as people write them, with torch.nn's own dropout: what `convert` and its like are tried on."""

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width, stride=1, p=0.2):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout2d(p)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None if stride == 1 else nn.Conv2d(width, width, 1, stride, bias=False)

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        x = self.drop(self.relu(self.bn1(self.conv1(x))))
        return self.relu(self.bn2(self.conv2(x)) + identity)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(8), BasicBlock(8, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = self.avgpool(self.layer1(self.stem(x)))
        return self.fc(self.dropout(torch.flatten(x, 1)))


class CausalAttention(nn.Module):
    """The module is there for its p; the drop itself happens in a fused function."""

    def __init__(self, width, heads, p):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attn_dropout = nn.Dropout(p)
        self.resid_dropout = nn.Dropout(p)

    def forward(self, x):
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        p = self.attn_dropout.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        return self.resid_dropout(self.proj(y.transpose(1, 2).reshape(batch, time, width)))


class GPTBlock(nn.Module):
    def __init__(self, width, heads, p):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, heads, p)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(p), nn.Linear(4 * width, width), nn.Dropout(p)
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """Two blocks, and one matrix for words in and out."""

    def __init__(self, words=30, width=16, heads=2, p=0.1):
        super().__init__()
        self.wte = nn.Embedding(words, width)
        self.wpe = nn.Embedding(12, width)
        self.drop = nn.Dropout(p)
        self.h = nn.ModuleList([GPTBlock(width, heads, p) for _ in range(2)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, words):
        positions = torch.arange(words.shape[1], device=words.device)
        x = self.drop(self.wte(words) + self.wpe(positions))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class Mlp(nn.Module):
    def __init__(self, width, p):
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(p)
        self.fc2 = nn.Linear(2 * width, width)
        self.drop2 = nn.Dropout(p)

    def forward(self, x):
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Attention(nn.Module):
    def __init__(self, width, heads, p):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_drop = nn.Dropout(p)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(p)

    def forward(self, x):
        batch, time, width = x.shape
        qkv = self.qkv(x).reshape(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attention = self.attn_drop((q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1))
        return self.proj_drop(self.proj((attention @ v).transpose(1, 2).reshape(batch, time, width)))


class ViTBlock(nn.Module):
    def __init__(self, width, heads, p):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, p)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, p)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, width=16, p=0.1):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.randn(1, 5, width) * 0.1)
        self.pos_drop = nn.Dropout(p)
        self.blocks = nn.Sequential(*(ViTBlock(width, 2, p) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.head_drop = nn.Dropout(0.4)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.blocks(self.pos_drop(x + self.pos))
        return self.head(self.head_drop(self.norm(x).mean(1)))


class Encoder(nn.Module):
    """torch's own encoder, which takes a fused path in evaluation."""

    def __init__(self, words=30, width=16):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, 5))

    def forward(self, words):
        return self.head(self.encoder(self.embed(words)))


def _images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _words():
    return torch.randint(30, (2, 7), generator=torch.Generator().manual_seed(1))


MODELS = {
    "resnet": (ResNet, _images),
    "gpt": (GPT, _words),
    "vit": (ViT, _images),
    "encoder": (Encoder, _words),
}


def build(name, seed=0):
    """The model in evaluation, always with the same weights, and an input for it."""
    kind, batch = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().eval(), batch()
