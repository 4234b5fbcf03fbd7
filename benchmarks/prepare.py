"""Images a second that `sslpipe prepare` decodes from JPEG files, beside PIL alone and in torch's DataLoader.

All read the same square files and make uint8 arrays [3, size, size]. PIL: open, convert to RGB, resize (bicubic), in
this process, and in a DataLoader with a process a core. Processes live on from round to round; two rounds before do not
count, since the decoder's processes take some seconds to start from here. A second table compares stores of pixels and
of JPEG.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Rounds, interleave
from benchmarks.predict import make_images
from benchmarks.report import Options, Table
from sslpipe.data.encoded_images import EncodedImages
from sslpipe.data.store import Store
from sslpipe.decoding.decode import Decoder
from sslpipe.decoding.pixels import Form
from sslpipe.io.own_process import available_cores
from sslpipe.preparation.store_writer import Settings, write_store
from sslpipe.sources import folder
from sslpipe.tools.predict import Files

BATCH = 256


class Opened(Dataset[Tensor]):
    """Files by PIL, uint8 [3, size, size] each."""

    def __init__(self, files: Files, size: int) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files.entries)

    def __getitem__(self, place: int) -> Tensor:
        with Image.open(self.files.load(place)) as image:
            small = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def implementations(
    files: Files, decoder: Decoder, loader: "DataLoader[Tensor]", opened: Opened
) -> dict[str, Callable[[], list[NDArray[np.uint8]]]]:
    """Each decodes all files, in order, and returns the chunks."""
    order = np.arange(len(files.entries))
    return {
        "sslpipe": lambda: [chunk.images for chunk in decoder.decode(order)],
        "DataLoader": lambda: [batch.numpy() for batch in loader],
        "PIL": lambda: [opened[place].numpy()[None] for place in range(len(opened))],
    }


def side_by_side(root: Path, size: int, rounds: int) -> Rounds:
    """Rounds over the files of a folder."""
    files, cores = Files([root]), available_cores()
    opened = Opened(files, size)
    loader = DataLoader(opened, BATCH, num_workers=cores, persistent_workers=True)
    with ExitStack() as stack:
        decoder = stack.enter_context(Decoder(files, Form(size=size, channels=3), workers=cores))
        made = implementations(files, decoder, loader, opened)
        found = {name: np.concatenate(work()).astype(np.float32) for name, work in made.items()}
        assert np.array_equal(found["DataLoader"], found["PIL"])
        # A JPEG is decoded at a part of its size where that is enough, so single pixels may differ.
        assert found["sslpipe"].shape == found["PIL"].shape
        difference = np.abs(found["sslpipe"] - found["PIL"]).mean()
        assert difference < 2, difference
        return interleave(made, rounds=rounds)


def measure(options: Options) -> list[Table]:
    rows = []
    for side, number in ((32, 600), (256, 100)) if options.quick else ((32, 8000), (256, 3000)):
        with tempfile.TemporaryDirectory() as name:
            make_images(Path(name), number, side, ".jpg")
            for size in (32, 96):
                rounds = side_by_side(Path(name), size, 1 if options.quick else 5)
                rates = (rounds.rate(each, number) for each in ("sslpipe", "DataLoader", "PIL"))
                rows.append((f"{number} of {side} px", size, *rates, rounds.ratio("DataLoader", "sslpipe")))
    columns = ("files", "to, px", "sslpipe, images/s", "DataLoader, images/s", "PIL, one process", "times as fast")
    note = f"{available_cores()} processes each. Times as fast: sslpipe beside the DataLoader."
    return [Table("Decoding JPEG files", columns, rows, note), stores(100 if options.quick else 3000)]


def stores(number: int) -> Table:
    """Both kinds of stores of the same images: their disk space, the time of prepare, and reading at random."""
    size, rows = 224, []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        noisy_images(root / "images", number, 320)
        source = folder.Source(folder.Settings(path=str(root / "images")))
        for store in ("pixels", "jpeg"):
            settings = Settings(size=size, channels=3, test=0.0, held_out=0.0, store=store)
            out, began = root / store, time.monotonic()
            write_store(out, source, settings, protocol="split", seed=0, workers=available_cores(), strict=True)
            seconds = time.monotonic() - began
            images = Store(out).images("train")
            index = np.random.default_rng(0).permutation(number)[: number // 3]
            target, began = torch.empty((len(index), 3, size, size), dtype=torch.uint8), time.monotonic()
            if isinstance(images, EncodedImages):
                images.read_into(index, target)
            else:
                target.copy_(torch.from_numpy(images[index]))
            read = len(index) / (time.monotonic() - began)
            rows.append((store, (out / "train/images.npy").stat().st_size / 1e6, number / seconds, read))
    columns = ("store", "MB", "prepare, images/s", "read by one thread, images/s")
    return Table(f"Stores of {number} images of {size} px", columns, rows, "The files are in the system's cache.")


def noisy_images(root: Path, number: int, side: int) -> None:
    """Write JPEG files with smooth colours and some noise, which compress about as photographs do."""
    root.mkdir()
    random = np.random.default_rng(0)
    for place in range(number):
        small = Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        pixels = smooth + 6 * random.standard_normal(smooth.shape, np.float32)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{place}.jpg", quality=90)
