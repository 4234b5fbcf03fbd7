"""Exact search: tiles of the matrix of similarities, and a running top k for each query.

A candidate is one int64: its similarity in the high half, its index, counted down, in the low half. So the order of
these keys is the order of the answer (equal similarities by index), and one top k moves both.
Among themselves, images are compared once: a tile above the diagonal is looked at by its rows and by its columns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TILE = {"cpu": 4096, "cuda": 8192}
"""Rows and columns of a tile: 64 MB and 256 MB of similarities, large since each tile costs a merge."""
BLOCK = 32
"""Entries of which only the highest is looked at first; 32 was the fastest of 16, 32, 64 for k = 20."""
LAST = 2**32 - 1
NOTHING = torch.iinfo(torch.int64).min


def search(
    queries: Tensor,
    bank: Tensor,
    *,
    k: int,
    exclude_self: bool,
    advance: Callable[[int], None],
    tile: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k of `bank` with the highest inner product with each query.

    queries: [Q, D], bank: [N, D], float32 on one device. exclude_self: the queries are the bank, and query i is no
    neighbour of its own. tile: its rows and columns. Returns indices and products clipped to [-1, 1], [Q, k] each,
    highest first.
    """
    device = queries.device
    # Of equal size, since a narrow last tile costs as many steps as a wide one, and of whole blocks.
    rows, columns = (_even(len(each), tile or TILE[device.type]) for each in (queries, bank))
    # One buffer for all tiles: fresh memory for each would cost as much time as its product.
    scores = torch.empty(rows, columns, device=device)
    best = _Best(len(queries), k, device)
    with _full_precision():
        for top in range(0, len(queries), rows):
            for left in range(top if exclude_self else 0, len(bank), columns):
                _multiply(queries[top : top + rows], bank[left : left + columns], scores)
                if exclude_self and left == top:
                    scores.fill_diagonal_(-torch.inf)
                best.offer(scores, top, left)
                if exclude_self and left > top:
                    best.offer(scores.T, left, top)
            advance(min(rows, len(queries) - top))
    similarities, indices = _unpack(best.keys)
    return indices.cpu().numpy(), similarities.clamp_(-1, 1).cpu().numpy()


def _even(count: int, most: int) -> int:
    """Length of as many equal parts of `count` as have at most `most` each, rounded up to whole blocks."""
    parts = -(-count // most)
    return -(-count // (parts * BLOCK)) * BLOCK


def _multiply(a: Tensor, b: Tensor, scores: Tensor) -> None:
    """All inner products of a [R, D] and b [C, D], into the upper left of `scores`; -∞ elsewhere."""
    torch.mm(a, b.T, out=scores[: len(a), : len(b)])
    scores[len(a) :] = -torch.inf
    scores[:, len(b) :] = -torch.inf


class _Best:
    """Each query's k best so far, while tiles come in the order of the bank's indices."""

    def __init__(self, queries: int, k: int, device: torch.device) -> None:
        self.keys = torch.full((queries, k), NOTHING, device=device)
        """[Q, k], highest first."""
        self.least = torch.full((queries,), torch.finfo(torch.float32).min, device=device)
        """[Q], what the next candidate has to reach: it has a higher index, and loses to an equal one."""

    def offer(self, scores: Tensor, first: int, first_index: int) -> None:
        """scores: [R, C] of queries[first:] and bank[first_index:], of whole blocks; -∞ where there is no neighbour."""
        queries = slice(first, min(first + len(scores), len(self.keys)))
        count = queries.stop - first
        blocks = _in_blocks(scores[:count])
        if scores.stride(0) == 1:  # a transposed tile, whose columns lie in memory as rows do
            highest = scores.T.view(-1, BLOCK, len(scores)).amax(dim=1).T[:count].contiguous()
        else:
            highest = blocks.amax(dim=2)  # [R, blocks]
        k = self.keys.shape[1]
        least = self.least[queries]
        if first_index == 0 and highest.shape[1] >= k:
            # Nothing is known yet, but so many blocks hold an entry of at least this height.
            least = torch.maximum(least, highest.topk(k).values[:, -1])
        query, block = (highest >= least[:, None]).nonzero(as_tuple=True)
        entries = blocks[query, block]  # [·, BLOCK]
        pair, place = (entries >= least[query, None]).nonzero(as_tuple=True)
        found = _pack(entries[pair, place], first_index + block[pair] * BLOCK + place)
        self.keys[queries] = _merge(self.keys[queries], query[pair], found)
        last = self.keys[queries, -1]
        above = _unpack(last)[0].nextafter(torch.full_like(least, torch.inf))
        self.least[queries] = above.where(last > NOTHING, self.least[queries])


def _in_blocks(scores: Tensor) -> Tensor:
    """[R, C] as [R, blocks, BLOCK], wherever it lies in memory."""
    rows, columns = scores.stride()
    return scores.as_strided((len(scores), scores.shape[1] // BLOCK, BLOCK), (rows, BLOCK * columns, columns))


def _merge(keys: Tensor, row: Tensor, found: Tensor) -> Tensor:
    """The k highest of each row of `keys` [R, k] and of what was found for it; row: [F], ascending, of `found` [F]."""
    count = row.bincount(minlength=len(keys))
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    padded = torch.full((len(keys), int(count.max())), NOTHING, device=keys.device)
    padded[row, place] = found
    return torch.cat([keys, padded], dim=1).topk(keys.shape[1]).values


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
