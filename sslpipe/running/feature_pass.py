"""The stage features: the backbone's features of every image, computed once, for all later stages."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.store import SPLITS, Split, Store
from sslpipe.data.unread_images import StoredImages
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.io.console import info, progress
from sslpipe.io.errors import NothingLearnedError
from sslpipe.io.files import atomic_folder, sha256, write_json
from sslpipe.io.interrupts import listening
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_network
from sslpipe.nets.model_paths import CARD, weights_path
from sslpipe.running.feature_files import FeatureFiles
from sslpipe.running.feature_runtime import FeatureSettings, Forward, choose_forward
from sslpipe.running.features import STAGE_CARD

ROUNDING = 0.01
"""Largest change of a feature vector by float16, as a share of its norm. Within float16's range it is below 0.0005;
values beyond 65,504 become infinite, and vectors of values below some 1e-6 lose their digits."""


def write_features(
    settings: FeatureSettings,
    store: Store,
    pretrained: Path,
    out: Path,
    device: torch.device,
    *,
    checkpoint_seconds: float,
) -> str:
    """Compute the features of all images of all splits, without augmentation, and write them to `out`.

    pretrained: folder of the model. No label is read. The images are read in batches with fixed boundaries from the
    memory-mapped store, so that the memory needed does not depend on their number, and a run that was killed goes on
    after the images that it has saved, with the same result bit for bit. Runs with other numbers of threads or on other
    devices may differ by the rounding of float32 sums, which changes some values by one unit of float16's last digit.
    Several processes compute a batch together, and the first one writes. Returns what was computed, in words; "" in the
    others.
    Raises UserError for a model of other images, and if float16 cannot represent the features.
    """
    network = load_network(pretrained, store.info)
    dimension = network.backbone.dimension
    runtime, forward = choose_forward(settings, network, store, device)
    checkpoint = Checkpoint.of_stage(
        "features",
        settings=[settings, runtime],
        inputs=[store.root / "store.json", pretrained / CARD, weights_path(pretrained)],
        every_seconds=checkpoint_seconds,
    )
    card = card_for("features", store.info, settings, parent=sha256(weights_path(pretrained)))
    parts: Any = getattr(network.backbone, "parts", (dimension,))
    about = {
        "runtime": runtime,
        "backbone": backbone_fingerprint(pretrained),
        "dimension": dimension,
        "parts": list(parts),
    }
    counts: dict[Split, int] = {split: store.info.count(split) for split in SPLITS}
    if world.rank():
        with checkpoint:
            _compute(None, counts, store, forward, settings.batch, weights_path(pretrained))
        return ""
    with (
        atomic_folder(out) as folder,
        checkpoint,
        FeatureFiles(checkpoint, folder, counts, dimension) as files,
    ):
        try:
            _compute(files, counts, store, forward, settings.batch, weights_path(pretrained))
        except NothingLearnedError:
            checkpoint.remove()
            raise
        files.finish()
        write_json(folder / STAGE_CARD, {**asdict(card), **about})
    checkpoint.remove()
    return f"{dimension} features of each of {sum(counts.values())} images, by {runtime}"


def _compute(
    files: FeatureFiles | None,
    counts: Mapping[Split, int],
    store: Store,
    forward: Forward,
    batch: int,
    source: Path,
) -> None:
    """Append the rows that the files lack. Raises KeyboardInterrupt on Ctrl-C, after saving.

    files: None in the processes that do not write. counts: images of each split. source: the weights, for errors.
    """
    found = torch.tensor([files.done[split] if files else 0 for split in counts])
    begun = dict(zip(counts, world.sum_over_processes(found).tolist(), strict=True))
    done, total = sum(begun.values()), sum(counts.values())
    if done:
        info(f"features: resumed after {done} of {total} images")
    with listening() as interrupts, progress("features", total, "images", done=done) as bar:
        for split, count in counts.items():
            images, start = store.images(split), begun[split]
            while start < count:
                stop = min(start + batch - start % batch, count)
                features = _forward_together(forward, images, start, stop)
                rows = _in_float16(features, f"{split} images {start} to {stop - 1}", source)
                if files:
                    files.append(split, rows)
                bar.advance(stop - start)
                done, start = done + stop - start, stop
                interrupted = world.anywhere(interrupts.received)
                if files and (files.due() or interrupted):
                    files.save()
                if interrupted:
                    saved = files.saved if files else 0
                    where = f"resumes after {saved} images" if saved else "starts from the beginning"
                    info(f"features: stopped after {done} of {total} images; the next run {where}")
                    raise KeyboardInterrupt
    if files:
        files.save()


def _forward_together(forward: Forward, images: StoredImages, start: int, stop: int) -> Tensor:
    """Return the features of images start to stop - 1, of which each process computes every N-th one."""
    count, (rank, size) = stop - start, (world.rank(), world.size())
    # A process that has one image less than others computes the last one again.
    own = np.minimum(np.arange(start + rank, start + -(-count // size) * size, size), stop - 1)
    # A copy of these images alone; the array of all of them stays in its file.
    features = forward(torch.from_numpy(np.array(images[own] if size > 1 else images[start:stop])))
    with world.shared_batch():
        return world.gather(features)[:count]


def _in_float16(features: Tensor, images: str, source: Path) -> NDArray[np.float16]:
    """Return features [B, D] as float16.

    Raises NothingLearnedError for vectors that are not finite or that float16 cannot represent.
    images: what they are the features of. source: the weights.
    """
    rounded = features.half()
    change = torch.linalg.vector_norm(features - rounded.float(), dim=1)
    bad = ~(change <= ROUNDING * torch.linalg.vector_norm(features, dim=1))
    if bad.any():
        finite, count = features.isfinite().all(dim=1), int(bad.sum())
        if broken := int((~finite).sum()):
            raise NothingLearnedError(
                f"{source}: features of {broken} of the {images} are not finite; train it again, or use other weights"
            )
        size = features[bad].abs().amax()
        raise NothingLearnedError(
            f"{source}: features of {count} of the {images} are out of float16's range, with values up to {size:.3g}; "
            "train it again, or use other weights"
        )
    return rounded.numpy()
