"""Exact neighbour search: the similarity matrix is computed in tiles, with a running top k for each query.

A candidate is a key of 64 bits: the similarity in the high half and the negated index in the low half. The order of
the keys is the order of the result (equal similarities by index), so a single top k selects values and indices.
If the queries are the bank, only tiles on and above the diagonal are computed, and each is used for its rows and for
its columns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data import world
from sslpipe.neighbors.saved_search import NOT_SAVED, SavedSearch

TILE = {"cpu": 4096, "cuda": 8192}
"""Device type → rows and columns of a tile: 64 MB and 256 MB of similarities; large, as each tile needs a merge."""
BLOCK = 32
"""Entries per block; blocks are first compared by their maximum. 32 was the fastest of 16, 32 and 64 for k = 20."""
SMALL_BLOCK, MANY = 8, 64
"""Entries per block for more than MANY neighbours (own choice). A tile then has more blocks than there are neighbours,
and most blocks have none: for k = 200 among 20,000 × 128, 3.7 CPU seconds instead of 13.5, for k = 20 1.5 by both."""


MAX_INDEX = 2**32 - 1
MERGED = 100_000
"""Queries whose candidates of all processes are merged at a time (own choice: 160 MB for k = 50 and 4 processes)."""
EMPTY = torch.iinfo(torch.int64).min
"""Key that is lower than that of any candidate."""


class Vectors(Protocol):
    """Vectors [N, D] of which a slice is used at a time: a tensor, or vectors that are scaled when they are used."""

    device: torch.device

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Return some of the rows, float32 on the device."""
        ...


def search(
    queries: Vectors,
    bank: Vectors,
    *,
    k: int,
    exclude_self: bool,
    advance: Callable[[int], None],
    tile: int | None = None,
    saved: SavedSearch = NOT_SAVED,
    shared: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k rows of `bank` with the highest inner product with each query.

    queries: [Q, D]. bank: [N, D]. Both are float32 on one device; only a tile of each is used at a time. exclude_self:
    the queries are the bank, and query i is not its own neighbour. advance: called with the number of queries done
    since the last call. tile: maximum number of rows and of columns of a tile; None: TILE. saved: where the candidates
    so far are saved after each row of tiles, from which a search that was stopped goes on. shared: all processes that
    train together call this, and each computes some rows of tiles; nothing is saved then.
    Returns indices and products clipped to [-1, 1], [Q, k] each, highest first.
    """
    device = queries.device
    # Tiles of equal size, because a narrow last tile takes as many operations as a wide one.
    rows, columns = (_even(len(each), tile or TILE[device.type]) for each in (queries, bank))
    # One buffer for all tiles: to allocate memory for each takes as long as its product.
    scores = torch.empty(rows, columns, device=device)
    best = _Best(len(queries), k, device)
    form = np.array([len(queries), len(bank), k, rows, columns])
    saved = NOT_SAVED if shared else saved
    start = best.restore(saved.load(), form)
    if start:
        advance(start)
    tops = range(start, len(queries), rows)
    with full_precision():
        for top in _own(tops) if shared else tops:
            own = queries[top : top + rows]
            for left in range(top if exclude_self else 0, len(bank), columns):
                _multiply(own, own if exclude_self and left == top else bank[left : left + columns], scores)
                if exclude_self and left == top:
                    scores.fill_diagonal_(-torch.inf)
                best.offer(scores, top, left)
                if exclude_self and left > top:
                    best.offer(scores.T, left, top)
            advance(min(rows * (world.size() if shared else 1), len(queries) - top))
            if top + rows < len(queries) and saved.due():
                saved.save(best.state(), form=form, done=np.array(top + rows))
    similarities, indices = _unpack(_merged(best.keys) if shared else best.keys)
    return indices.cpu().numpy(), similarities.clamp_(-1, 1).cpu().numpy()


def _own(tops: Sequence[int]) -> list[int]:
    """Return those of the rows of tiles that are this process's: of a triangle, the longest and the shortest ones."""
    size, rank = world.size(), world.rank()
    return [top for place, top in enumerate(tops) if place % (2 * size) in (rank, 2 * size - 1 - rank)]


def _merged(keys: Tensor) -> Tensor:
    """Return the k highest of the keys [Q, k] of all processes, for each query; no key is in two of them."""
    parts = [world.of_all_processes(part).transpose(0, 1).flatten(1) for part in torch.split(keys, MERGED)]
    return torch.cat([part.topk(keys.shape[1]).values for part in parts])


def _even(count: int, most: int) -> int:
    """Return the size of the fewest equal parts of `count` that are at most `most` each, rounded up to whole blocks."""
    parts = -(-count // most)
    return -(-count // (parts * BLOCK)) * BLOCK


def _multiply(a: Tensor, b: Tensor, scores: Tensor) -> None:
    """Write all inner products of a [R, D] and b [C, D] into `scores`, and -∞ into its additional rows and columns."""
    torch.mm(a, b.T, out=scores[: len(a), : len(b)])
    scores[len(a) :] = -torch.inf
    scores[:, len(b) :] = -torch.inf


class _Best:
    """The k highest candidates of each query so far; tiles must be offered in the order of the bank's indices."""

    def __init__(self, queries: int, k: int, device: torch.device) -> None:
        self.block = BLOCK if k <= MANY else SMALL_BLOCK
        """Entries per block."""
        self.keys = torch.full((queries, k), EMPTY, device=device)
        """Keys of the candidates, int64 [Q, k], highest first."""
        self.least = torch.full((queries,), torch.finfo(torch.float32).min, device=device)
        """Minimum similarity of the next candidate, [Q]: above the k-th highest, as equal similarities go by index."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what `restore` needs."""
        return {"keys": self.keys.cpu().numpy(), "least": self.least.cpu().numpy()}

    def restore(self, state: Mapping[str, NDArray[Any]], form: NDArray[np.int64]) -> int:
        """Take the candidates of a search of this form, and return the number of queries that are done; 0 without."""
        if "keys" not in state or not np.array_equal(state["form"], form):
            return 0
        self.keys = torch.from_numpy(state["keys"]).to(self.keys.device)
        self.least = torch.from_numpy(state["least"]).to(self.least.device)
        return int(state["done"])

    def offer(self, scores: Tensor, first: int, first_index: int) -> None:
        """Merge the candidates of a tile into the k highest.

        scores: [R, C] similarities of queries[first:] and bank[first_index:], in whole blocks; -∞ for none.
        """
        queries = slice(first, min(first + len(scores), len(self.keys)))
        count = queries.stop - first
        blocks = _in_blocks(scores[:count], self.block)
        if scores.stride(0) == 1:  # a transposed tile, with contiguous columns
            highest = scores.T.view(-1, self.block, len(scores)).amax(dim=1).T[:count].contiguous()
        else:
            highest = blocks.amax(dim=2)  # [R, blocks]
        k = self.keys.shape[1]
        least = self.least[queries]
        if first_index == 0 and highest.shape[1] >= k:
            # There are no candidates yet, but k blocks have an entry of at least this similarity.
            least = torch.maximum(least, highest.topk(k).values[:, -1])
        query, block = (highest >= least[:, None]).nonzero(as_tuple=True)
        entries = blocks[query, block]  # [·, entries per block]
        pair, place = (entries >= least[query, None]).nonzero(as_tuple=True)
        found = _pack(entries[pair, place], first_index + block[pair] * self.block + place)
        self.keys[queries] = _merge(self.keys[queries], query[pair], found)
        last = self.keys[queries, -1]
        above = _unpack(last)[0].nextafter(torch.full_like(least, torch.inf))
        self.least[queries] = above.where(last > EMPTY, self.least[queries])


def _in_blocks(scores: Tensor, block: int) -> Tensor:
    """Return a view [R, blocks, block] of scores [R, C] of any strides."""
    rows, columns = scores.stride()
    return scores.as_strided((len(scores), scores.shape[1] // block, block), (rows, block * columns, columns))


def _merge(keys: Tensor, row: Tensor, found: Tensor) -> Tensor:
    """Return the k highest of each row's `keys` [R, k] and `found` keys [F]; row: [F] their rows, ascending."""
    count = row.bincount(minlength=len(keys))
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    padded = torch.full((len(keys), int(count.max())), EMPTY, device=keys.device)
    padded[row, place] = found
    return torch.cat([keys, padded], dim=1).topk(keys.shape[1]).values


def _pack(values: Tensor, indices: Tensor) -> Tensor:
    """Return keys, int64, in the order of `values` (float32), and of descending `indices` (below 2³²) if equal."""
    bits = (values + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    # As integers, the bits of positive floats have the order of the floats, and those of negative floats the reverse.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) + (MAX_INDEX - indices)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values and the indices of keys."""
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32), MAX_INDEX - (keys & MAX_INDEX)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute products in full float32, whatever precision training has set: TF32 and bf16 would change the order."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
