"""Writing of the splits of a store: their images are decoded, or read again if an earlier run has written them."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import SPLITS, Split
from sslpipe.decoding.decode import Decoded, Decoder
from sslpipe.decoding.entries import Entry
from sslpipe.io.console import Progress
from sslpipe.io.files import write_array, write_json
from sslpipe.io.text import valid_text
from sslpipe.preparation.findings import Findings
from sslpipe.preparation.images_file import ImagesFile
from sslpipe.preparation.journal import Journal, Record
from sslpipe.preparation.jpeg_codec import JpegCodec
from sslpipe.preparation.pixel_statistics import PixelStatistics


class SplitWriter:
    """Writes splits in the order of SPLITS, and what is known of all their images together.

    The images of an earlier run go through the same sums as those that are decoded, so the results are equal.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        decoder: Decoder,
        journal: Journal,
        image_shape: tuple[int, int, int],
        codec: JpegCodec | None,
        shown: Progress,
    ) -> None:
        """journal: of the chunks that are written, entered. image_shape: C, H, W. codec: None to write pixels."""
        self.broken: dict[int, str] = {}
        """Index of each entry that could not be decoded → the reason."""
        self.statistics = PixelStatistics(image_shape[0])
        """Of the training images."""
        self.fingerprint = hashlib.sha256()
        """Of all images, in the order of splits."""
        self.findings = Findings()
        self._entries, self._decoder, self._journal = entries, decoder, journal
        self._image_shape, self._codec, self._shown = image_shape, codec, shown

    def write(self, folder: Path, split: Split, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Write the entries `order`, [N] indices, as a split to its folder; return those that could be decoded."""
        folder.mkdir(exist_ok=True)
        index = [np.zeros(0, np.int64)]
        with ImagesFile(folder, self._image_shape, self._codec) as file:
            for chunk in self._chunks(file, split, order):
                index.append(chunk.index)
                self._count(chunk, split)
        written = np.concatenate(index)
        self.fingerprint.update(f"{split} {len(written)} x {self._image_shape}".encode())
        write_array(folder / "labels.npy", labels_of(self._entries, written))
        write_json(folder / "files.json", [valid_text(self._entries[i].name) for i in written.tolist()])
        return written

    def _chunks(self, file: ImagesFile, split: Split, order: NDArray[np.int64]) -> Iterator[Decoded]:
        """Yield the chunks of a split, which are in the file."""
        done = 0
        for record in self._journal.records(split):
            if (images := file.reread(record)) is None:
                break
            part = order[done : done + len(record.image_info) + len(record.broken)]
            self._shown.skip(len(part))
            done += len(part)
            yield Decoded(images, part[~np.isin(part, list(record.broken))], record.broken, record.image_info)
        if done < len(order) or split == SPLITS[-1]:
            self._journal.print_resumed()
        for chunk in self._decoder.decode(order[done:]):
            images, sizes, checksum = file.append(chunk.images)
            self._journal.append(Record(split, chunk.broken, chunk.image_info, sizes, checksum))
            self._shown.advance(len(chunk.image_info) + len(chunk.broken))
            yield Decoded(images, chunk.index, chunk.broken, chunk.image_info)

    def _count(self, chunk: Decoded, split: Split) -> None:
        self.broken.update(chunk.broken)
        self.fingerprint.update(chunk.images.data)
        self.findings.add(split, chunk.index, chunk.image_info)
        if split == "train":
            self.statistics.add(chunk.images)


def labels_of(entries: Sequence[Entry], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the labels of entries, [N]. index: [N]."""
    return np.array([entries[i].label for i in index.tolist()], np.int64)
