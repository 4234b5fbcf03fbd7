"""Predictions for new images, in chunks, so that the memory needed does not depend on the number of images."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.device import autocast, image_format
from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.decoding.decode import Decoded, Decoder
from sslpipe.decoding.entries import Entry
from sslpipe.decoding.pixels import MAX_PIXELS, Form
from sslpipe.io.console import info, progress
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_file, read_array, sha256, write_array
from sslpipe.io.stages import CLUSTER_STAGES, LABELLED_STAGES
from sslpipe.neighbors import torch_search
from sslpipe.neighbors.unit_vectors import UnitVectors
from sslpipe.nets.inference import infer
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.model_file import check_data
from sslpipe.nets.model_paths import weights_path
from sslpipe.nets.network import Network
from sslpipe.preparation.image_files import find_images
from sslpipe.running.features import find_features
from sslpipe.tools.prediction_table import ERROR, FILE, check_suffix, file_name, is_predictions, table_writer

CACHE = Path(".sslpipe/features")
"""Folder of cached features of training images; a file's name is a hash of the model and the images."""
CACHED_BANKS = 4
"""Files in that folder; with another one the one that was used longest ago is deleted (own choice)."""


class Files:
    """The image source of new images: files without labels."""

    settings: Mapping[str, Any] = {}
    classes: tuple[str, ...] = ()
    notes: Sequence[str] = ()

    def __init__(self, paths: Sequence[Path]) -> None:
        """Find the images.

        paths: image files with any extension, and folders, whose images are all used.
        Raises UserError for a path that does not exist, and if there is no image.
        """
        self.ignored: Counter[str] = Counter()
        self.unreadable: dict[str, str] = {}
        self.entries: list[Entry] = []
        for path in paths:
            if path.is_dir():
                found = find_images(path, where="IMAGES")
                self.ignored += found.ignored
                self.unreadable |= {str(path / name): reason for name, reason in found.unreadable.items()}
                self.entries += [Entry(str(path / name)) for name in found.images]
            elif path.exists():
                self.entries.append(Entry(str(path)))
            else:
                raise UserError(f"IMAGES: {path} does not exist")
        if not self.entries:
            raise UserError(f"IMAGES: no image found in {', '.join(map(str, paths))}")

    def load(self, index: int) -> Path:
        """Return the path of an image."""
        return Path(self.entries[index].name)


@dataclass(frozen=True)
class Bank:
    """The training images among which nearest neighbours are searched."""

    features: torch_search.Vectors
    """[N, D], L2-normalised features; those in a file are scaled as they are used."""
    files: Sequence[str]
    """Names of the N files."""


@dataclass
class PredictionSummary:
    """Summary of the predictions for a set of files."""

    images: int = 0
    """Number of files, including broken images."""
    broken: dict[str, str] = field(default_factory=dict)
    """The reason for each broken image."""
    predictions: Counter[str] = field(default_factory=Counter)
    """Number of images for each predicted class or cluster."""
    clipped: int = 0
    """Number of images with values beyond the model's range of values."""
    further: int = 0
    """Number of files with further pages or frames, which are not used."""


def open_bank(
    folder: Path, card: ModelCard, network: Network, prepared: Path, featured: Path, device: torch.device
) -> Bank:
    """Return the training images of the store `prepared` with their features by the model in `folder`.

    featured: folder of stored features, which are used if they are those of the model's backbone. Other features are
    computed once and cached. Raises UserError if the model was trained on another store.
    """
    store = Store(prepared)
    check_data(card, store.info, folder)
    if (stored := find_features(featured, store, folder)) is not None:
        return Bank(UnitVectors(stored.tensor("train", device), device), store.files("train"))
    what = (sha256(weights_path(folder)), card.data, network.settings, network.input)
    key = hashlib.sha256(repr(what).encode()).hexdigest()[:16]
    cached = CACHE / f"{key}.npy"
    if cached.exists():
        features = torch.from_numpy(read_array(cached)).to(device)
        with suppress(OSError):
            os.utime(cached)  # it was used now
    else:
        images = Images(store.images("train"), device)
        features = F.normalize(infer(network.features, images, title="features of training images"), dim=1)
        try:
            with atomic_file(cached) as partial:
                write_array(partial, features.cpu().numpy())
            _delete_unused(CACHE)
        except UserError as error:  # in a project that cannot be written to
            info(f"{error}; the features of the training images are computed again by the next call")
    return Bank(features, store.files("train"))


def _delete_unused(folder: Path) -> None:
    """Delete cached features but for the CACHED_BANKS files that were used last."""
    with suppress(OSError):  # another process may delete them too
        newest = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest[CACHED_BANKS:]:
            path.unlink()


class Predictor:
    """A model on a device, for the prediction of chunks of decoded images."""

    def __init__(self, network: Network, card: ModelCard, device: torch.device) -> None:
        # The memory format channels_last makes small networks 1.5 times as fast on a CPU.
        self.network = network.to(memory_format=image_format(device)).to(device).eval()
        self.card, self.device = card, device

    def name(self, output: int) -> str:
        """Return the name of an output: that of a class, or cluster and its number."""
        return f"cluster {output}" if self.card.predicts_clusters else self.card.classes[output]

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8]) -> Tensor:
        """Return the features [B, D] of uint8 images [B, C, H, W]."""
        with autocast(self.device):
            pixels = torch.from_numpy(images).to(self.device).contiguous(memory_format=image_format(self.device))
            return self.network.features(pixels.float() / 255)

    @torch.inference_mode()
    def predictions(self, features: Tensor) -> Iterator[tuple[int, float]]:
        """Return the most likely output and its probability, the confidence, for each row of features [B, D]."""
        with autocast(self.device):
            logits: Tensor = self.network.head(features)
        confidence, output = logits.float().softmax(dim=1).max(dim=1)
        return zip(output.tolist(), confidence.tolist(), strict=True)


def check_out(out: Path, inputs: Sequence[Path]) -> None:
    """Raise UserError unless the file `out` is new or an earlier table of predictions, no input, and CSV or Parquet."""
    if not out.is_dir():
        check_suffix(out)
    if not out.exists():
        return
    if any(path.exists() and path.samefile(out) for path in inputs):
        raise UserError(f"--out: {out} is one of the inputs; name another file")
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder; name a file")
    if not is_predictions(out):
        raise UserError(f"--out: {out} exists and has no predictions; name another file, or delete it")


def predict(
    predictor: Predictor,
    files: Files,
    out: Path,
    *,
    workers: int,
    bank: Bank | None = None,
    k: int = 0,
    names: Mapping[str, str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PredictionSummary:
    """Write one row per file to the table `out`, in the order of the files; it is written completely or not at all.

    The suffix of `out` is .csv or .parquet. Columns: file_name (see `prediction_table.file_name`); prediction and
    confidence (0 to 1), if the model predicts classes or clusters; with a bank, for each of the k nearest training
    images neighbor_<i> and the cosine similarity_<i>; error, the reason for a broken image. names: names to write for
    clusters. max_pixels: maximum number of pixels of an image. Raises UserError if `out` cannot be written.
    """
    card, summary = predictor.card, PredictionSummary()
    predicts = card.stage in (*LABELLED_STAGES, *CLUSTER_STAGES)
    k = min(k, len(bank.files)) if bank else 0
    columns = [FILE, *(["prediction", "confidence"] if predicts else [])]
    columns += [f"{what}_{i + 1}" for i in range(k) for what in ("neighbor", "similarity")]
    form = Form(size=card.size, channels=card.channels, value_range=card.value_range, max_pixels=max_pixels)
    decoder = Decoder(files, form, workers=workers)
    with (
        atomic_file(out) as partial,
        table_writer(partial, [*columns, ERROR], form=out.suffix) as write,
        decoder,
        progress("predict", len(files.entries), "images") as bar,
    ):
        for chunk in decoder.decode(np.arange(len(files.entries))):
            summary.clipped += sum(image_info.clipped for image_info in chunk.image_info)
            summary.further += sum(image_info.further for image_info in chunk.image_info)
            for index, row in sorted(_rows(predictor, chunk, bank, k, names or {}, predicts).items()):
                name = files.entries[index].name
                write({FILE: file_name(name, out), **row})
                summary.images += 1
                if "error" in row:
                    summary.broken[name] = row["error"]
                elif predicts:
                    summary.predictions[row["prediction"]] += 1
            bar.advance(len(chunk.index) + len(chunk.broken))
    return summary


def _rows(
    predictor: Predictor, chunk: Decoded, bank: Bank | None, k: int, names: Mapping[str, str], predicts: bool
) -> dict[int, dict[str, Any]]:
    """Return the row of each entry in a chunk, by the entry's index."""
    rows: dict[int, dict[str, Any]] = {index: {"error": reason} for index, reason in chunk.broken.items()}
    if not len(chunk.index):
        return rows
    features = predictor.features(chunk.images)
    good: list[dict[str, Any]] = [{} for _ in chunk.index]
    if predicts:
        for row, (output, confidence) in zip(good, predictor.predictions(features), strict=True):
            name = predictor.name(output)
            row.update(prediction=names.get(name, name), confidence=confidence)
    if bank and k:
        unit = F.normalize(features.float(), dim=1)
        nearest = torch_search.search(unit, bank.features, k=k, exclude_self=False, advance=lambda _: None)
        for row, indices, similarities in zip(good, *nearest, strict=True):
            for place, (index, similarity) in enumerate(zip(indices, similarities, strict=True), start=1):
                row[f"neighbor_{place}"] = bank.files[index]
                row[f"similarity_{place}"] = float(similarity)
    return rows | dict(zip(chunk.index.tolist(), good, strict=True))
