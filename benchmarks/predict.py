"""Images a second that `sslpipe predict` answers for, by kind of file, beside decoding alone and the network alone."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sslpipe.data.decode import Decoder, available_cores
from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.model_file import ModelCard
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.tools.predict import Files, Predictor, predict


def make_images(folder: Path, count: int, side: int, suffix: str) -> None:
    random = np.random.default_rng(0)
    smooth = random.integers(0, 255, (count, 5, 5, 3)).astype(np.uint8)
    for place, pixels in enumerate(smooth):
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{place}{suffix}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--size", type=int, default=32, help="that the model takes, pixels")
    parser.add_argument("--backbone", default="tiny_resnet")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    size, cores = arguments.size, available_cores()
    network = Network(
        BackboneSettings(name=arguments.backbone), LinearSettings(outputs=10), mean=[0.5] * 3, std=[0.25] * 3
    )
    card = ModelCard(
        stage="semisup", size=size, channels=3, classes=tuple("0123456789"), data="", parent=None, settings={}
    )
    predictor = Predictor(network, card, torch.device("cpu"))
    batch = np.zeros((256, 3, size, size), np.uint8)
    print(f"{arguments.backbone} at {size} px, {cores} cores, {arguments.images} images, median of {arguments.repeats}")
    print("| files | predict, images/s | decoding alone | network alone |\n|---|---|---|---|")
    for side, suffix in ((32, ".jpg"), (100, ".jpg")):
        with tempfile.TemporaryDirectory() as name:
            make_images(Path(name), arguments.images, side, suffix)
            files = Files([Path(name)])
            seconds: dict[str, list[float]] = {"predict": [], "decoding": [], "network": []}
            for _ in range(arguments.repeats):
                start = time.perf_counter()
                predict(predictor, files, Path(name) / "out.csv", workers=cores)
                seconds["predict"].append(time.perf_counter() - start)
                start = time.perf_counter()
                with Decoder(files, size=size, channels=3, workers=cores) as decoder:
                    for _ in decoder.decode(np.arange(arguments.images)):
                        pass
                seconds["decoding"].append(time.perf_counter() - start)
                start = time.perf_counter()
                for _ in range(0, arguments.images, len(batch)):
                    list(predictor.answers(predictor.features(batch)))
                seconds["network"].append(time.perf_counter() - start)
            rates = [f"{arguments.images / statistics.median(taken):.0f}" for taken in seconds.values()]
            print(f"| {side} px {suffix} | {' | '.join(rates)} |", flush=True)


if __name__ == "__main__":
    main()
