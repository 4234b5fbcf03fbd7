"""Methods in the form of a published run beside another form, on digits: `python -m benchmarks.forms --folder FOLDER`.

Each case changes a few settings of params.yaml and trains a method with its 40 labels, or self-label, for some seeds,
each with its own split and start; every run has one thread. Options: `--seeds 0,1,2 --jobs 2 --cases NAME,NAME`.
`--images FOLDER` takes photographs instead, a folder of class folders, with the changes of benchmarks/photographs.yaml.
Prints a table of test accuracies, mean ± standard deviation. What is finished in FOLDER is not run again.
"""

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.pretexts import cell, stage

PHOTOGRAPHS = Path(__file__).with_name("photographs.yaml")
CONFIDENT = "confident"
GEOMETRY = {"flip": 0.0}  # a mirrored digit is another one


@dataclass(frozen=True)
class Case:
    """Two forms of a method."""

    method: str
    """self-label, or stage/method."""
    one: Mapping[str, Any]
    """Changes to the method's block in params.yaml for the first form, as nested mappings."""
    other: Mapping[str, Any]
    """The same for the form of the published run."""
    start: str = "pretrain"
    row: str = ""
    """Further part of the name of the row that is scored, for the second form."""
    both: Mapping[str, Any] = field(default_factory=dict)
    """Changes for both forms."""


def strong(policy: str) -> dict[str, Any]:
    return {"policy": policy, **GEOMETRY}


LARS = {"name": "lars", "lr": 2.8, "weight_decay": 3e-6}
SUAVE = {"local_crops": 0, "mix_unlabelled": "global", "mix_labelled": True}
RUNNING_STATISTICS = {"target_statistics": "running", "final_statistics": "training"}
BATCH_STATISTICS = {"target_statistics": "batch", "final_statistics": "plain"}
STRONG_LABELS = {
    "targets": "model",
    "threshold": 0.9,
    "views": {"policy": "strong", **GEOMETRY, "rotate": 0.0, "translate": 0.0, "shear": 0.0, "scale": []},
}
CASES = {
    "RandAugment": Case("semisup/fixmatch", {"strong": strong("randaugment")}, {"strong": strong("randaugment_code")}),
    "CTAugment": Case(
        "semisup/fixmatch",
        {"strong": strong("randaugment")},
        {"strong": strong("ctaugment_code")},
        both={"ctaugment": True},
    ),
    "Suave's mixed term": Case(
        "semisup/suave", {}, {"mix_with": "next_view", "mix_weight": 1 / 60}, both=SUAVE | {"momentum_encoder": False}
    ),
    "Suave's scored classifier": Case("semisup/suave", {}, {}, row="/projection_1"),
    "LARS": Case(
        "semisup/suave",
        {"fit": {"optimizer": {"scale_all": False}}},
        {"fit": {"optimizer": {"scale_all": True}}},
        both={"fit": {"optimizer": LARS}, "momentum_encoder": False},
    ),
    "Suave's momentum encoder from scratch": Case(
        "semisup/suave",
        {"teacher_statistics": "averaged"},
        {"teacher_statistics": "batch"},
        start="prepare",
        both={"head_init": "random"},
    ),
    "Suave's momentum rising to 1": Case(
        "semisup/suave", {}, {"final_ema_decay": 1.0}, start="prepare", both={"head_init": "random"}
    ),
    "Daino's teacher from scratch": Case(
        "semisup/daino",
        {"teacher_statistics": "averaged"},
        {"teacher_statistics": "batch"},
        start="prepare",
        both={"head_init": "random"},
    ),
    "alternation": Case(
        "semisup/alternation",
        {},
        {
            "distance": "euclidean",
            "reduction": "mean",
            "cluster_batch": 30,
            "schedule_over": "semisupervised",
            "average_in": "semisupervised",
            "ssl": {"normalize_by": "confident"},
            "fit": {"epochs": 15},
        },
        both={"fit": {"epochs": 15}},
    ),
    "self-label at 1e-3": Case(
        "self-label",
        RUNNING_STATISTICS,
        BATCH_STATISTICS,
        both=STRONG_LABELS | {"fit": {"optimizer": {"lr": 1e-3}}},
    ),
    "self-label at 1e-4": Case(
        "self-label",
        RUNNING_STATISTICS,
        BATCH_STATISTICS,
        both=STRONG_LABELS | {"fit": {"optimizer": {"lr": 1e-4}}},
    ),
    "self-label as in params.yaml": Case(
        "self-label",
        RUNNING_STATISTICS,
        BATCH_STATISTICS,
    ),
}


def merged(block: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block with changes; a view's block that names its policy replaces the former one."""
    result = dict(block)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not {"policy", "name"} & set(value):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def started(root: Path, params: dict[str, Any], seed: int) -> Path:
    """Return the folder of a seed in which everything before the cases has run."""
    folder = root / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({**params, "seed": seed}))
    for name in ("prepare", "pretrain", "features", "mine-neighbors", "cluster"):
        if not (folder / "runs" / name).exists():
            stage(folder, name)
    return folder


def run(root: Path, params: dict[str, Any], name: str, form: str, seed: int) -> float:
    """Return the test accuracy of one form of a case, from its file if it is there."""
    case = CASES[name]
    folder = root / f"{name.replace(' ', '-').replace('/', '-')}-{form}-{seed}"
    result = folder / "result.json"
    if not result.exists():
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        for each in ("prepare", "pretrain", "features", "mine-neighbors", "cluster"):
            link = folder / "runs" / each
            if not link.exists():
                link.symlink_to((root / f"seed{seed}" / "runs" / each).resolve())
        stage_name, _, method = case.method.partition("/")
        key = stage_name.replace("-", "_")
        block = params[key][method or CONFIDENT]
        block = merged(merged(block, case.both), case.one if form == "one" else case.other)
        methods = {"methods": {method: {"start": case.start}}, method: block}
        if not method:
            methods = {"method": CONFIDENT, CONFIDENT: block}
        tree = {block_key: params[block_key] for block_key in ("protocol", "prepare", "network", "evaluate")}
        (folder / "params.yaml").write_text(yaml.safe_dump({**tree, "seed": seed, key: methods}))
        stage(folder, stage_name, *(["--method", method] if method else []))
        stage(folder, "evaluate")
        result.write_text((folder / "runs/evaluate/metrics.json").read_text())
    metrics = json.loads(result.read_text())
    if case.method == "self-label":
        return float(metrics["self_label"]["cluster_acc"])
    return float(metrics[case.method.replace("/", ".") + (case.row if form == "other" else "")]["acc"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    given = parser.parse_args()
    params = yaml.safe_load(Path("params.yaml").read_text())
    if given.images:
        params = merged(params, yaml.safe_load(PHOTOGRAPHS.read_text()))
        params["prepare"]["folder"] = {"path": str(given.images.resolve())}
    seeds = [int(seed) for seed in given.seeds.split(",")]
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda seed: started(given.folder, params, seed), seeds))
        names = [name for name in CASES if name in given.cases.split(",")]
        done = {
            (name, form): [pool.submit(run, given.folder, params, name, form, seed) for seed in seeds]
            for name in names
            for form in ("one", "other")
        }
        print("| | before | as the run |\n|---|---|---|")
        for name in names:
            cells = [cell([one.result() for one in done[name, form]]) for form in ("one", "other")]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
