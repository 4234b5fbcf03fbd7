"""The demonstration on the GPU by the stages' commands, its metrics beside those that docs/results.md has of a CPU."""

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.gpu.commands import Job, StoppedError, run
from benchmarks.gpu.plan import ROOT, Facts, Outcome, Plan
from benchmarks.gpu.settings import write
from sslpipe.io.console import info
from sslpipe.io.files import read_json
from sslpipe.io.params import Params
from sslpipe.io.stages import LABELLED_STAGES, STAGES, key_of

TABLE = ROOT / "docs/results.md"
ROW = re.compile(r"^ +│ (\w\S*) +│ +([\d.-]+) │ +([\d.]+) │", re.MULTILINE)
"""A row of the table of `sslpipe table`: model, acc or -, cluster_acc; not those of layers, which begin with /."""
BOUND = 0.05
"""How much lower a metric may be: on another processor a model has 1.8 points more or less (docs/results.md), and seeds
differ by as much; what is broken loses more (own choice)."""


def documented(text: str) -> dict[str, float]:
    """Return model → accuracy, without labels cluster accuracy, of the demonstration's table in docs/results.md."""
    found: dict[str, float] = {}
    for model, acc, cluster_acc in ROW.findall(text):
        found.setdefault(model, float(cluster_acc if acc == "-" else acc))
    return found


def shown(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return model → accuracy, without labels cluster accuracy, of the content of metrics.json."""
    return {model: row.get("acc", row.get("cluster_acc")) for model, row in metrics.items() if "cluster_acc" in row}


def lower(pairs: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Return the models, with their metrics here and there, that are lower here by more than BOUND."""
    found = ((model, here, there) for model, (here, there) in pairs.items() if here < there - BOUND)
    return tuple(f"{model} {here:.3f}, documented {there:.3f}" for model, here, there in found)


def jobs(project: Params, device: str, *, epochs: int | None = None) -> list[Job]:
    """Return the commands of a project's stages in the order of the pipeline. epochs: of pretrain, if given."""
    found = []
    for stage in STAGES[:-1]:  # without the report
        key = key_of(stage)
        if key not in project.tree:
            continue
        methods = project.tree[key]["methods"] if stage in LABELLED_STAGES else [None]
        for method in methods:
            arguments = [stage, "--params", "params.yaml"]
            arguments += ["--device", device] if stage != "prepare" else []
            arguments += ["--method", method] if method else []
            arguments += ["--epochs", str(epochs)] if epochs and stage == "pretrain" else []
            output = f"runs/{stage}/{method}" if method else f"runs/{stage}"
            found.append(Job(f"{stage}-{method}" if method else stage, arguments, output))
    return found


def measure(plan: Plan, facts: Facts) -> Outcome:
    folder = plan.out / "digits"
    only = ("seed", "protocol", "prepare", "network", "pretrain", "finetune", "evaluate") if plan.tiny else ()
    replaced = {"finetune.methods": {"linear": {"start": "pretrain"}}} if plan.tiny else {}
    write(folder / "params.yaml", Params(ROOT / "params.yaml"), replaced, only=only)
    seconds = facts.setdefault("seconds", {})
    try:
        for job in jobs(Params(folder / "params.yaml"), str(plan.device), epochs=1 if plan.tiny else None):
            if took := run(plan, folder, job):
                seconds[job.name] = round(took, 1)
    except StoppedError as stopped:
        return Outcome(str(stopped), done=False)
    metrics = read_json(folder / "runs/evaluate/metrics.json")
    facts["metrics"] = metrics
    expected, found = documented(TABLE.read_text()), shown(metrics)
    pairs = {model: (found[model], expected[model]) for model in found if model in expected}
    for model, (here, there) in pairs.items():
        info(f"{model}: {here:.3f}, documented {there:.3f}")
    lowest = min((here - there for here, there in pairs.values()), default=0.0)
    line = f"{len(pairs)} models in {sum(seconds.values()):.0f} s, at the least {lowest:+.3f} from docs/results.md"
    return Outcome(line, () if plan.tiny else lower(pairs))
