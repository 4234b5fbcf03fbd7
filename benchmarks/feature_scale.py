"""CPU time and memory of the stages on stored features, with many images: `python -m benchmarks.feature_scale FOLDER`.

Writes a project of random images of 8 px with stored features, a mixture of groups, and runs every stage from
mine-neighbors on, each as a process of its own. The model has random weights: no stage here computes the features of
training images. Memory is what a process holds beside the files that it maps, sampled every 20 ms, and the peak of all
that is resident, of which the mapped features are a part that the system may drop at any time. Linux only: memory is
read from /proc. 200,000 images take 1.5 GB of disk. `--stages` runs some of the stages, in the project that is there.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import Table
from sslpipe.data.store import SPLITS, Store, StoreInfo
from sslpipe.io.files import sha256
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.model_paths import weights_path
from sslpipe.nets.network import BackboneSettings, build_network

ROOT = Path(__file__).parents[1]
ARCHITECTURE = "tf_efficientnet_lite0+tf_efficientnet_lite2"
DIMENSION, SIDE, LATENT = 2560, 8, 64
HELD_OUT, TEST, NEW = 2_000, 5_000, 256
CHUNK = 4096
POLL = 0.02
STAGES = {
    "mine-neighbors": "mine-neighbors",
    "cluster scan_heads": "cluster --method scan_heads",
    "cluster kmeans": "cluster --method kmeans --out runs/cluster-kmeans",
    "cluster spectral": "cluster --method spectral --out runs/cluster-spectral",
    "self-label neighbors": "self-label --method neighbors",
    "semisup propagation": "semisup --method propagation",
    "estimate-clusters": "estimate-clusters",
    "evaluate": "evaluate",
    "predict": "predict runs/semisup/propagation new --neighbors 5",
}
"""Stage → its command, in the order of the pipeline."""


@dataclass(frozen=True)
class Size:
    """Size of a project."""

    images: int
    """Training images."""
    classes: int
    labels: int
    """Labels of each class."""
    held_out: int = HELD_OUT
    test: int = TEST


def write_project(folder: Path, size: Size) -> None:
    """Write everything that mine-neighbors and the later stages read."""
    rng = np.random.default_rng(0)
    counts = dict(zip(SPLITS, (size.images, size.held_out, size.test), strict=True))
    info = StoreInfo(
        size=SIDE, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, protocol="split", fingerprint="f" * 64, **counts
    )
    prepared, pretrained, featured = (folder / "runs" / name for name in ("prepare", "pretrain", "features"))
    pretrained.mkdir(parents=True)
    labels = {split: rng.integers(size.classes, size=count) for split, count in counts.items()}
    _write_json(prepared / "store.json", asdict(info))
    for split, label in labels.items():
        _write_json(prepared / split / "files.json", [f"{split}/{number}.png" for number in range(len(label))])
        np.save(prepared / split / "images.npy", rng.integers(256, size=(len(label), 3, SIDE, SIDE), dtype=np.uint8))
        np.save(prepared / split / "labels.npy", label)
    index = np.sort(
        np.concatenate([np.flatnonzero(labels["train"] == each)[: size.labels] for each in range(size.classes)])
    )
    _write_json(prepared / "labelled" / "classes.json", [f"class {number}" for number in range(size.classes)])
    np.save(prepared / "labelled" / "index.npy", index)
    np.save(prepared / "labelled" / "label.npy", labels["train"][index])
    store = Store(prepared)
    network = build_network(BackboneSettings(name="timm", architecture=ARCHITECTURE, unit_features=True), info)
    save_model(pretrained, network, card_for("pretrain", store.info, {}, parent=None))
    write_features(featured, labels, size.classes, rng)
    about = {"backbone": backbone_fingerprint(pretrained), "dimension": DIMENSION, "parts": [DIMENSION // 2] * 2}
    card = card_for("features", store.info, {}, parent=sha256(weights_path(pretrained)))
    _write_json(featured / "card.json", {**asdict(card), **about})
    (folder / "params.yaml").write_text(yaml.safe_dump(params(size.classes), sort_keys=False))
    (folder / "new").mkdir()
    for number, pixels in enumerate(rng.integers(256, size=(NEW, SIDE, SIDE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / "new" / f"{number}.png")


def write_features(
    folder: Path, labels: Mapping[str, NDArray[np.int64]], classes: int, rng: np.random.Generator
) -> None:
    """Write features [N, D] of groups around random centres, with variance in LATENT directions and noise in all."""
    centers, basis = (rng.standard_normal((count, DIMENSION), dtype=np.float32) for count in (classes, LATENT))
    basis /= np.sqrt(np.float32(LATENT))
    for split, label in labels.items():
        (folder / split).mkdir(parents=True)
        array = np.lib.format.open_memmap(
            folder / split / "features.npy", mode="w+", dtype=np.float16, shape=(len(label), DIMENSION)
        )
        for start in range(0, len(label), CHUNK):
            few = label[start : start + CHUNK]
            rows = 0.5 * centers[few] + rng.standard_normal((len(few), LATENT), dtype=np.float32) @ basis
            array[start : start + len(few)] = rows + 0.5 * rng.standard_normal(rows.shape, dtype=np.float32)


def params(classes: int) -> dict[str, Any]:
    """Settings of the project: defaults, but for the methods."""
    return {
        "seed": 0,
        "protocol": "split",
        "network": {"name": "timm", "architecture": ARCHITECTURE, "unit_features": True},
        "prepare": {"source": "folder", "folder": {"path": "new"}, "size": SIDE, "channels": 3},
        "pretrain": {"method": "frozen", "frozen": {"weights": ["package", "package"]}},
        "features": {},
        "mine_neighbors": {"k": 20},
        "cluster": {"method": "scan_heads", "clusters": classes, "scan_heads": {}, "kmeans": {}, "spectral": {}},
        "self_label": {"method": "neighbors", "neighbors": {}},
        "semisup": {"methods": {"propagation": {"start": "pretrain"}}, "propagation": {}},
        "finetune": {"methods": {"linear": {"start": "pretrain"}}, "linear": {}},
        "evaluate": {"permutations": 0},
        "report": {},
    }


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def run(command: str, folder: Path, log: Path) -> tuple[float, float, float]:
    """Run a command of sslpipe; return its CPU seconds, and peak memory without and with mapped files, in GB.

    log: file that receives what it prints. Raises CalledProcessError if it fails.
    """
    arguments = [sys.executable, "-m", "stages", *command.split()]
    with log.open("a") as output:
        output.write(f"$ {command}\n")
        output.flush()
        process = subprocess.Popen(
            arguments, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=output
        )
        own = 0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            own = max(own, _own_memory(process.pid))
            time.sleep(POLL)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments, log.read_text()[-2000:])
    return usage.ru_utime + usage.ru_stime, own * 1024 / 1e9, usage.ru_maxrss * 1024 / 1e9


def _own_memory(pid: int) -> int:
    """Return the memory of a process beside mapped files, in KiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the project, which is written if it is not there")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--labels", type=int, default=20, help="of each class")
    parser.add_argument("--stages", default=",".join(STAGES), help="names, separated by commas")
    given = parser.parse_args()
    if not given.folder.exists():
        write_project(given.folder, Size(given.images, given.classes, given.labels))
    rows = []
    for name in given.stages.split(","):
        seconds, own, peak = run(STAGES[name], given.folder, given.folder / "log.txt")
        rows.append([name, round(seconds), round(own, 2), round(peak, 2)])
        print(*rows[-1], flush=True)
    columns = ("stage", "CPU seconds", "memory, GB", "with mapped files, GB")
    print(Table(f"{given.images:,} × {DIMENSION} features", columns, rows).markdown())


if __name__ == "__main__":
    main()
