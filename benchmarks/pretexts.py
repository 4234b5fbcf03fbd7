"""Pretext tasks side by side: what mining, k-means, SCAN, self-labelling and a linear probe make of each.

    python -m benchmarks.pretexts --seeds 0,1,2 --jobs 2 --folder /tmp/pretexts

Runs the stages with the params.yaml of the current folder, a seed after another, each with its own split and start;
settings of pretext tasks that it lacks come from recipes/digits-<method>.yaml. Every run has one thread, so that jobs
do not slow each other down. What is finished in `folder` is not run again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev

import yaml

from sslpipe.tools import recipes

METHODS = "simclr,nce,moco,byol,propos,swav,dino,feature_decoupling,rotnet"
METRICS = {
    "purity@5": lambda run: run["mined"]["train"]["purity@5"],
    "held-out kNN": lambda run: run["mined"]["held_out"]["knn_acc"],
    "k-means": lambda run: run["scored"]["kmeans_features"]["cluster_acc"],
    "cluster": lambda run: run["scored"]["cluster"]["cluster_acc"],
    "self-label": lambda run: run["scored"]["self_label"]["cluster_acc"],
    "linear probe": lambda run: run["scored"]["finetune.linear"]["acc"],
    "pretrain, s": lambda run: run["seconds"],
}


def stage(folder: Path, *arguments: str) -> float:
    """Run a stage in a folder; its seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "stages", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{folder}: {' '.join(arguments)}: {done.stderr.strip()}")
    return time.monotonic() - start


def settings_of(params: dict, method: str) -> dict:
    """Settings of a pretext task, from params.yaml or from its recipe for the digits."""
    if method in params["pretrain"]:
        return params["pretrain"][method]
    return yaml.safe_load(recipes.text(f"digits-{method.replace('_', '-')}"))["pretrain"][method]


def run(root: Path, params: dict, method: str, seed: int) -> dict:
    """All metrics of one pretext task and seed, from `root` where they are there already."""
    folder = root / f"{method}-{seed}"
    result = folder / "result.json"
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        probe = {"linear": {"start": "pretrain"}}
        chosen = {
            "seed": seed,
            "pretrain": {"method": method, method: settings_of(params, method)},
            "semisup": {**params["semisup"], "methods": {}},
            "finetune": {**params["finetune"], "methods": probe},
        }
        (folder / "params.yaml").write_text(yaml.safe_dump({**params, **chosen}))
        stage(folder, "prepare")
        seconds = stage(folder, "pretrain")
        for name in ("features", "mine-neighbors", "cluster", "self-label"):
            stage(folder, name)
        stage(folder, "finetune", "--method", "linear")
        stage(folder, "evaluate")
        mined, scored = (
            json.loads((folder / "runs" / name / "metrics.json").read_text()) for name in ("mine-neighbors", "evaluate")
        )
        result.write_text(json.dumps({"mined": mined, "scored": scored, "seconds": seconds}))
    return json.loads(result.read_text())


def cell(values: Sequence[float]) -> str:
    if min(values) > 1:
        return f"{fmean(values):.0f}"
    return f"{fmean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    params = yaml.safe_load(Path("params.yaml").read_text())
    pairs = [(method, int(seed)) for method in given.methods.split(",") for seed in given.seeds.split(",")]
    with ThreadPoolExecutor(given.jobs) as pool:
        done = list(pool.map(lambda pair: run(given.folder, params, *pair), pairs))
    print("| pretext | " + " | ".join(METRICS) + " |")
    print("|---" * (len(METRICS) + 1) + "|")
    for method in given.methods.split(","):
        rows = [result for (name, _), result in zip(pairs, done, strict=True) if name == method]
        print(
            f"| `{method}` | " + " | ".join(cell([metric(row) for row in rows]) for metric in METRICS.values()) + " |"
        )


if __name__ == "__main__":
    main()
