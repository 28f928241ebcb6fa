"""ViT: Dosovitskiy et al. An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale. ICLR 2021.

The small form that DC-BENCH (Cui, Wang, Si, Hsieh, NeurIPS 2022) evaluates condensed sets on. The norm stands before
attention and perceptron; a class token is read out. Attention is written as two matrix products, because the fused
kernels have no second derivative.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from attar.errors import UsageError
from attar.nets.layers import Classifier


class Attention(nn.Module):
    """Multi-head self-attention: softmax(Q K^T / sqrt(d)) V, d features a head.

    Args:
        dim: features of a token. heads, head_dim: heads and features of each. dropout: share dropped.
    """

    def __init__(self, *, dim: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Sequential(nn.Linear(heads * head_dim, dim), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, tokens, dim] -> [B, tokens, dim]."""
        qkv = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1))  # [B, tokens, 3, heads, head_dim]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, tokens, head_dim] each
        weight = self.drop((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1))  # [B, heads, tokens, tokens]
        return self.out((weight @ v).transpose(1, 2).flatten(2))


class ViT(Classifier):
    """A vision transformer; images whose sides the patch does not divide are padded with zeros on the right and below.

    Args:
        channels, size, classes: C, (H, W) and K.
        patch: side of a patch in pixels.
        dim: features of a token. depth: layers. heads, head_dim: of the attention. mlp: hidden units of the perceptron.
        dropout: share dropped in training, from torch's global generator.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: tuple[int, int],
        classes: int,
        patch: int = 4,
        dim: int = 512,
        depth: int = 6,
        heads: int = 8,
        head_dim: int = 64,
        mlp: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if min(patch, dim, depth, heads, head_dim, mlp) < 1 or not 0 <= dropout < 1:
            raise UsageError(
                f"a ViT of patch={patch}, dim={dim}, depth={depth}, heads={heads}, head_dim={head_dim}, mlp={mlp}, "
                f"dropout={dropout} cannot be built; all must be at least 1, and dropout in [0, 1)"
            )
        h, w = (-(-side // patch) for side in size)
        self.pad = (0, w * patch - size[1], 0, h * patch - size[0])
        self.embed = nn.Conv2d(channels, dim, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, h * w + 1, dim))
        self.drop = nn.Dropout(dropout)
        self.attention = nn.ModuleList(
            Attention(dim=dim, heads=heads, head_dim=head_dim, dropout=dropout) for _ in range(depth)
        )
        self.perceptron = nn.ModuleList(_perceptron(dim, mlp, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the class token after the last layer, [B, dim]."""
        patches = self.embed(F.pad(x, self.pad)).flatten(2).mT  # [B, patches, dim]
        tokens = self.drop(torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.position)
        for attention, perceptron in zip(self.attention, self.perceptron):
            tokens = tokens + attention(tokens)
            tokens = tokens + perceptron(tokens)
        return self.norm(tokens[:, 0])


def _perceptron(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, dim),
        nn.Dropout(dropout),
    )
