"""Images a second that `sslpipe predict` answers for, by kind of file, beside decoding alone and the network alone."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import interleave
from benchmarks.report import Options, Table
from sslpipe.decoding.decode import Decoder
from sslpipe.decoding.pixels import Form
from sslpipe.io.own_process import available_cores
from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.tools.predict import Files, Predictor, predict


def make_images(folder: Path, count: int, side: int, suffix: str) -> None:
    random = np.random.default_rng(0)
    smooth = random.integers(0, 255, (count, 5, 5, 3)).astype(np.uint8)
    for place, pixels in enumerate(smooth):
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{place}{suffix}")


def measure(options: Options) -> list[Table]:
    count, size, cores = 500 if options.quick else 8000, 32, available_cores()
    network = Network(BackboneSettings(name="tiny_resnet"), LinearSettings(outputs=10), mean=[0.5] * 3, std=[0.25] * 3)
    card = ModelCard(
        stage="semisup", size=size, channels=3, classes=tuple("0123456789"), data="", parent=None, settings={}
    )
    predictor = Predictor(network, card, options.device)
    batch = np.zeros((256, 3, size, size), np.uint8)
    rows = []
    for side in (32, 100):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_images(folder, count, side, ".jpg")
            files = Files([folder])

            def decode(files: Files = files) -> None:
                with Decoder(files, Form(size=size, channels=3), workers=cores) as decoder:
                    for _ in decoder.decode(np.arange(count)):
                        pass

            def answer() -> None:
                for _ in range(0, count, len(batch)):
                    list(predictor.predictions(predictor.features(batch)))

            def whole(files: Files = files, out: Path = folder / "out.csv") -> None:
                predict(predictor, files, out, workers=cores)

            implementations = {"predict": whole, "decoding": decode, "network": answer}
            turns = interleave(implementations, rounds=1 if options.quick else 3, warmup=0)
        rows.append([f"{side} px", *(turns.rate(name, count) for name in implementations)])
    columns = ("JPEG files", "predict, images/s", "decoding alone", "network alone")
    return [Table(f"Predict: tiny_resnet, {size} × {size}, {cores} cores, {count} images", columns, rows)]
