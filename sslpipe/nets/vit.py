"""Vision transformers (ViT, Dosovitskiy et al. 2021) as in DeiT (Touvron et al. 2021) and DINO (arXiv:2104.14294).

The position embedding is fixed, as in MoCo v3 (Chen et al. 2021, section 4.3), where DINO's is learned. Images of
another size than the whole ones, such as the local views of multi-crop, have it interpolated, as in DINO's public code.
Stochastic depth is as in DeiT.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.data import world
from sslpipe.io.errors import UserError
from sslpipe.nets.layers import Backbone
from sslpipe.nets.recompute import run_parts

EPSILON = 1e-6
"""ε of the layer norms (public code of ViT, DeiT and DINO)."""
MLP_RATIO = 4
"""Ratio of the width of a block's hidden layer to the width of the tokens."""
WAVELENGTH = 10_000.0
"""Longest wavelength of the position embedding, divided by 2π (Vaswani et al. 2017, section 3.5)."""
DEVIATION = 0.02
"""Standard deviation of the initial weights (public code of ViT, DeiT and DINO)."""


def position_embedding(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the position embedding of a grid of patches, [rows · columns, width], row by row.

    Patch (y, x) has sin(x ω_i), cos(x ω_i), sin(y ω_i), cos(y ω_i) with ω_i = 10000^(-4i / width), 0 ≤ i < width / 4.
    """
    quarter = width // 4
    frequency = WAVELENGTH ** -(torch.arange(quarter, device=device) / quarter)
    column = torch.outer(torch.arange(columns, device=device), frequency)
    row = torch.outer(torch.arange(rows, device=device), frequency)
    across = torch.cat([column.sin(), column.cos()], dim=1)
    down = torch.cat([row.sin(), row.cos()], dim=1)
    return torch.cat([across.repeat(rows, 1), down.repeat_interleave(columns, dim=0)], dim=1)


def resized_positions(embedding: Tensor, grid: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """Return the position embedding of the patches of a smaller or larger image, [to rows · to columns, width].

    embedding: [rows · columns, width], of the rows and columns of `grid`. The image covers the whole grid: its
    embedding is the bicubic interpolation at its patches' centres (DINO's public code), and the same for the same grid.
    """
    if grid == to:
        return embedding
    image = embedding.T.reshape(1, -1, *grid)
    return F.interpolate(image, to, mode="bicubic", align_corners=False)[0].flatten(1).T


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, a residual branch is dropped for random images of the batch.

    The branch of an image is zero with probability `rate`, else divided by 1 - rate, which keeps its expected value.
    The random draws are from torch's global generator.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Map the output of a residual branch, [B, N, D], to the same shape."""
        if not self.training or self.rate == 0:
            return branch
        return world.own(F.dropout(branch.new_ones(world.total(len(branch)), 1, 1), self.rate)) * branch


class Attention(nn.Module):
    """Multi-head self-attention with biases (ViT, appendix A, eq. 5 to 8)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, N, D] to the same shape."""
        images, tokens, width = x.shape
        stacked = self.queries_keys_values(x).view(images, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = stacked.permute(2, 0, 3, 1, 4)  # each [B, heads, N, D / heads]
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        output: Tensor = self.output(mixed.transpose(1, 2).reshape(images, tokens, width))
        return output


class Block(nn.Module):
    """Attention and a perceptron, each with a layer norm before it and a residual connection (ViT, eq. 2 and 3)."""

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
        """Map tokens [B, N, D] to the same shape."""
        attended = x + self.drop(self.attention(x))
        output: Tensor = attended + self.drop(self.perceptron(attended))
        return output


class VisionTransformer(Backbone):
    """A transformer of patches and a class token; the features are the class token after a final layer norm."""

    def __init__(self, *, patch: int, width: int, depth: int, heads: int, drop_path: float, channels: int) -> None:
        """Build the network.

        patch: side of the square patches, pixels. width: width of the tokens, a multiple of 4 and of `heads`.
        depth: number of blocks. drop_path: rate of stochastic depth in the last block; it increases linearly from 0 in
        the first. channels: number of image channels.
        """
        super().__init__()
        self.dimension = width
        self.patch = self.side_multiple = patch
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.empty(width))
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.Sequential(*(Block(width, heads, rate) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self._initialise()

    def _initialise(self) -> None:
        """Initialise the class token and the linear layers: weights truncated normal, biases 0.

        The patches' convolution keeps torch's initialisation, as in the public code of DeiT and DINO: its outputs are
        then about as large as the position embedding. With weights of DEVIATION they would be much smaller for patches
        of few pixels.
        """
        nn.init.trunc_normal_(self.token, std=DEVIATION)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=DEVIATION)
                nn.init.zeros_(layer.bias)

    def positions(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """Return the position embedding of an image of so many patches, [rows · columns, dimension].

        It is that of the whole images' grid, interpolated; without `whole_side` every image counts as a whole one.
        """
        grid = (rows, columns) if self.whole_side is None else (max(1, self.whole_side // self.patch),) * 2
        embedding = position_embedding(*grid, self.dimension, device)
        return resized_positions(embedding, grid, (rows, columns))

    def block_modules(self) -> Sequence[nn.Module]:
        """Return the blocks."""
        return tuple(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to features [B, dimension].

        Raises UserError unless H and W are multiples of the patch's side.
        """
        height, width = x.shape[2:]
        if height % self.patch or width % self.patch:
            raise UserError(
                f"network.name: images or views of {height} × {width} px found, expected multiples of {self.patch} px, "
                "the side of this vision transformer's patches"
            )
        patches = self.patches(x).flatten(2).transpose(1, 2)  # [B, N, D]
        patches = patches + self.positions(height // self.patch, width // self.patch, x.device)
        token = self.token.expand(len(x), 1, -1)
        tokens = run_parts(self, self.blocks, torch.cat([token, patches], dim=1))
        features: Tensor = self.norm(tokens[:, 0])
        return features


def vit_small_16(*, channels: int, drop_path: float) -> VisionTransformer:
    """Return a ViT-S/16 (DeiT-S, table 1; DINO, table 1) for 224 px, whose features have dimension 384."""
    return VisionTransformer(patch=16, width=384, depth=12, heads=6, channels=channels, drop_path=drop_path)


def vit_tiny_4(*, channels: int, drop_path: float) -> VisionTransformer:
    """Return a ViT-Ti (DeiT-Ti, table 1) with patches of 4 px for images of 32 px; its features have dimension 192."""
    return VisionTransformer(patch=4, width=192, depth=12, heads=3, channels=channels, drop_path=drop_path)


def vit_mini_4(*, channels: int, drop_path: float) -> VisionTransformer:
    """Return a small ViT for the demonstration's images of 16 px (own choice), whose features have dimension 96."""
    return VisionTransformer(patch=4, width=96, depth=4, heads=3, channels=channels, drop_path=drop_path)
