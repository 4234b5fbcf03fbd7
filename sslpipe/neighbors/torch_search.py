"""Exact search: tiles of the matrix of similarities, and a running top k for each query.

A candidate is one int64: its similarity in the high half, its index, counted down, in the low half. So the order of
these keys is the order of the answer (equal similarities by index), and one top k moves both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TILE_COLUMNS = 16384
TILE_ROWS = {"cpu": 1024, "cuda": 4096}
"""Queries in a tile. With the columns: 64 MB and 256 MB of similarities, wide since each tile costs a merge."""
BLOCK = 32
"""Columns of which only the highest is looked at first; 32 was the fastest of 16, 32, 64 for k = 20."""
LAST = 2**32 - 1


def search(
    queries: Tensor,
    bank: Tensor,
    *,
    k: int,
    exclude_self: bool,
    advance: Callable[[int], None],
    rows: int | None = None,
    columns: int = TILE_COLUMNS,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k of `bank` with the highest inner product with each query.

    queries: [Q, D], bank: [N, D], float32 on one device. exclude_self: query i is bank[i] and no neighbour of its own.
    rows, columns: size of a tile. Returns indices and products clipped to [-1, 1], [Q, k] each, highest first.
    """
    rows = min(rows or TILE_ROWS[queries.device.type], len(queries))
    tiles = -(-len(bank) // columns)
    # Of equal width, since a narrow last tile costs as many steps as a wide one, and of whole blocks.
    columns = -(-len(bank) // (tiles * BLOCK)) * BLOCK
    # One buffer for all tiles: fresh memory for each would cost as much time as its product.
    buffer = torch.empty(rows, columns, device=queries.device)
    found = np.empty((len(queries), k), dtype=np.int64)
    with _full_precision():
        for top in range(0, len(queries), rows):
            query = queries[top : top + rows]
            best = torch.full((len(query), k), torch.iinfo(torch.int64).min, device=queries.device)
            for left in range(0, len(bank), columns):
                part = bank[left : left + columns]
                scores = buffer[: len(query)]
                torch.mm(query, part.T, out=scores[:, : len(part)])
                scores[:, len(part) :] = -torch.inf
                if exclude_self:
                    scores.diagonal(top - left).fill_(-torch.inf)
                best = torch.cat([best, _candidates(scores, left, k)], dim=1).topk(k).values
            found[top : top + len(query)] = best.cpu().numpy()
            advance(len(query))
    similarities, indices = _unpack(torch.from_numpy(found))
    return indices.numpy(), similarities.clamp_(-1, 1).numpy()


def _candidates(scores: Tensor, first: int, k: int) -> Tensor:
    """Keys [R, ·] of a tile's entries that may be among each row's k highest.

    scores: [R, C], contiguous, of whole blocks; its columns are bank[first:], -∞ where they are no neighbour.

    The k highest entries of a row lie in the k blocks with the highest maxima: were one in another block, each of those
    k would hold an entry that goes before it. Blocks of neighbouring columns keep this true of equal entries.
    """
    rows, device = len(scores), scores.device
    if scores.shape[1] <= k * BLOCK:
        return _pack(scores, torch.arange(first, first + scores.shape[1], device=device))
    blocks = scores.view(rows, -1, BLOCK)
    count = blocks.shape[1]
    maxima = _pack(blocks.amax(dim=2), torch.arange(count, device=device))
    chosen = _unpack(maxima.topk(k, sorted=False).values)[1]  # [R, k]
    flat = (chosen + count * torch.arange(rows, device=device)[:, None]).flatten()
    columns = first + BLOCK * chosen[:, :, None] + torch.arange(BLOCK, device=device)
    return _pack(blocks.view(-1, BLOCK).index_select(0, flat).view(rows, -1), columns.view(rows, -1))


def _pack(values: Tensor, indices: Tensor) -> Tensor:
    """Keys in the order of `values` (float32), and of falling `indices` (below 2³²) among equal ones."""
    bits = (values + 0.0).view(torch.int32)  # + 0 makes -0 into 0
    # The bits of floats are in the floats' order, but for the negative ones, which are in the opposite order.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) + (LAST - indices)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The values and indices of keys."""
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32), LAST - (keys & LAST)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in full float32, whatever speed training has asked for: TF32 and bf16 would change the order."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
