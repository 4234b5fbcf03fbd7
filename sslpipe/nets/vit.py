"""Vision transformers (Dosovitskiy et al. 2021) as DeiT and DINO train them, with a position embedding for any grid.

The position embedding is fixed, as in MoCo v3 (Chen et al. 2021, section 4.3), so that the small crops of multi-crop
need no interpolation of a learned one. Stochastic depth is DeiT's (Touvron et al. 2021).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.errors import UserError
from sslpipe.nets.layers import Backbone

EPSILON = 1e-6
"""Of the layer norms (ViT's code, DeiT, DINO)."""
MLP_RATIO = 4
WAVELENGTH = 10_000.0
"""Of the slowest wave of the position embedding, over 2π (Vaswani et al. 2017, section 3.5)."""
DEVIATION = 0.02
"""Of the start values (ViT's code, DeiT, DINO)."""


def position_embedding(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """[rows · columns, width], row by row: sine and cosine of the column, then of the row, a quarter of the width each.

    Patch (y, x) has sin(x ω_i), cos(x ω_i), sin(y ω_i), cos(y ω_i) with ω_i = 10000^(-4i / width), 0 ≤ i < width / 4.
    """
    quarter = width // 4
    frequency = WAVELENGTH ** -(torch.arange(quarter, device=device) / quarter)
    column = torch.outer(torch.arange(columns, device=device), frequency)
    row = torch.outer(torch.arange(rows, device=device), frequency)
    across = torch.cat([column.sin(), column.cos()], dim=1)
    down = torch.cat([row.sin(), row.cos()], dim=1)
    return torch.cat([across.repeat(rows, 1), down.repeat_interleave(columns, dim=0)], dim=1)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, a residual branch is left out for some images of the batch.

    The branch of an image is zero with probability `rate`, else divided by 1 - rate, which keeps its expected value.
    Draws from torch's global generator.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """[B, N, D], same shape."""
        if not self.training or self.rate == 0:
            return branch
        return F.dropout(branch.new_ones(len(branch), 1, 1), self.rate) * branch


class Attention(nn.Module):
    """Multi-head self-attention (Dosovitskiy et al. 2021, appendix A, eq. 5 to 8), with biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D], same shape."""
        images, tokens, width = x.shape
        stacked = self.queries_keys_values(x).view(images, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = stacked.permute(2, 0, 3, 1, 4)  # each [B, heads, N, D / heads]
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        output: Tensor = self.output(mixed.transpose(1, 2).reshape(images, tokens, width))
        return output


class Block(nn.Module):
    """Attention, then a perceptron, each after a layer norm and beside a shortcut (the same paper, eq. 2 and 3)."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width, eps=EPSILON), Attention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width, eps=EPSILON),
            nn.Linear(width, MLP_RATIO * width),
            nn.GELU(),
            nn.Linear(MLP_RATIO * width, width),
        )
        self.drop = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D], same shape."""
        attended = x + self.drop(self.attention(x))
        output: Tensor = attended + self.drop(self.perceptron(attended))
        return output


class VisionTransformer(Backbone):
    """Patches and a class token through pre-norm blocks; the features are the class token after a last layer norm."""

    def __init__(self, *, patch: int, width: int, depth: int, heads: int, drop_path: float, channels: int) -> None:
        """patch: side of the square patches, pixels. width: of the tokens, a multiple of 4 and of `heads`.

        drop_path: rate of stochastic depth in the last block; it rises linearly from 0 in the first.
        channels: of the images.
        """
        super().__init__()
        self.dimension = width
        self.patch = patch
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.empty(width))
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.Sequential(*(Block(width, heads, rate) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self._initialise()

    def _initialise(self) -> None:
        """Linear layers and the class token: truncated normal; biases 0.

        The patches' convolution keeps torch's start values, as in DeiT's and DINO's code: with these its outputs are
        about as large as the position embedding, which would drown what DEVIATION makes of a patch of few pixels.
        """
        nn.init.trunc_normal_(self.token, std=DEVIATION)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=DEVIATION)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, dimension]; raises UserError unless H and W are multiples of the patch's side."""
        height, width = x.shape[2:]
        if height % self.patch or width % self.patch:
            raise UserError(
                f"network.name: images or crops of {height} × {width} px found, expected multiples of {self.patch} px, "
                "the side of this vision transformer's patches"
            )
        patches = self.patches(x).flatten(2).transpose(1, 2)  # [B, N, D]
        rows, columns = height // self.patch, width // self.patch
        patches = patches + position_embedding(rows, columns, self.dimension, x.device)
        token = self.token.expand(len(x), 1, -1)
        tokens = self.blocks(torch.cat([token, patches], dim=1))
        features: Tensor = self.norm(tokens[:, 0])
        return features


def vit_small_16(*, channels: int, drop_path: float) -> VisionTransformer:
    """ViT-S/16 (DeiT-S, table 1; DINO, table 1), dimension 384, for 224 px."""
    return VisionTransformer(patch=16, width=384, depth=12, heads=6, channels=channels, drop_path=drop_path)


def vit_tiny_4(*, channels: int, drop_path: float) -> VisionTransformer:
    """ViT-Ti (DeiT-Ti, table 1) with patches for 32 px, dimension 192."""
    return VisionTransformer(patch=4, width=192, depth=12, heads=3, channels=channels, drop_path=drop_path)


def vit_mini_4(*, channels: int, drop_path: float) -> VisionTransformer:
    """A small one for the demonstration's 16 px on two CPU cores, dimension 96. Own choice."""
    return VisionTransformer(patch=4, width=96, depth=4, heads=3, channels=channels, drop_path=drop_path)
