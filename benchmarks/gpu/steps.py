"""Speed by the project's benchmarks: the step over the bare network, views a second, and SimCLR beside lightly.

Launches of a step are counted, and shown beside those that benchmarks/launches.py counts without a GPU, if it is there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import simclr, steps, views
from benchmarks.gpu.commands import environment
from benchmarks.gpu.methods import OFF, variables
from benchmarks.gpu.plan import Facts, Outcome, Plan
from benchmarks.gpu.waits import launches
from benchmarks.report import Options, Table
from sslpipe.engine.ahead import AHEAD as VIEWS_AHEAD
from sslpipe.io.console import info
from sslpipe.nets.network import BackboneSettings

IMAGES, SIDE = 4096, 32
NETWORKS = {"fixmatch": "wrn_28_2", "simmatch": "wrn_28_2"}
"""Method → its network in the published experiments; the others have a ResNet-18."""
TINY = ("simclr", "fixmatch")


def network_of(method: str, plan: Plan) -> BackboneSettings:
    """Return the network of a method's published experiment; the smallest one in a rehearsal."""
    return BackboneSettings(name="tiny_resnet" if plan.tiny else NETWORKS.get(method, "resnet18"))


def published(plan: Plan) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (stage, method) → its published settings; of two methods in a rehearsal."""
    return {key: block for key, block in steps.published().items() if not plan.tiny or key[1] in TINY}


def step_table(plan: Plan, stage: str, method: str, block: dict[str, Any]) -> Table:
    """Measure a method's step at its published batch."""
    images = steps.images(64 if plan.tiny else IMAGES, 3, SIDE, plan.device)
    setup = steps.Setup(network_of(method, plan), images, 0)
    rounds, count = (1, 1) if plan.tiny else (7, 8)
    batch = 8 if plan.tiny else None
    return steps.table(
        f"{method}, {setup.backbone.name}", {(stage, method): block}, setup, batch, rounds=rounds, steps=count
    )


def launch_table(plan: Plan) -> Table:
    """Count what steps launch with views drawn within the step, as the model does."""
    rows, expected = [], modelled_launches([method for _, method in published(plan)], seconds=min(plan.left / 2, 120))
    images = steps.images(64 if plan.tiny else IMAGES, 3, SIDE, plan.device)
    for (stage, method), block in published(plan).items():
        batch = 8 if plan.tiny else block["fit"]["batch"]
        with variables({VIEWS_AHEAD: OFF}):
            trained = steps.trainer(stage, method, block, steps.Setup(network_of(method, plan), images, batch))
        trained.step(0)
        found = launches(trained, range(1, 4))
        rows.append([f"{stage}.{method}", found["kernels"], found["copies"], expected.get(f"{stage}.{method}", "-")])
    return Table("Launches of a step", ("method", "kernels", "copies and fills", "modelled launches"), rows)


def modelled_launches(methods: list[str], *, seconds: float) -> dict[str, int]:
    """Return stage.method → launches as benchmarks/launches.py counts them, in a process that sees no GPU.

    Nothing is returned if it fails or takes longer than `seconds`, and a line says so.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "launches.json"
        command = [sys.executable, "-m", "benchmarks.launches", "--json", str(path), *methods]
        hidden = {**environment(os.environ), "CUDA_VISIBLE_DEVICES": ""}
        try:
            subprocess.run(command, env=hidden, capture_output=True, text=True, check=True, timeout=seconds)
        except subprocess.SubprocessError as error:
            info(f"no modelled launches: {' '.join(str(error.stderr or error).split())[-200:]}")
            return {}
        table = next(each for each in json.loads(path.read_text()) if "launches" in each["columns"])
    place = table["columns"].index("launches")
    return {row[0]: row[place] for row in table["rows"]}


def work(plan: Plan) -> dict[str, Callable[[], list[Table]]]:
    """Return name → what is measured under it, in the order of their use."""
    found: dict[str, Callable[[], list[Table]]] = {}
    for (stage, method), block in published(plan).items():
        found[f"step {method}"] = lambda stage=stage, method=method, block=block: [
            step_table(plan, stage, method, block)
        ]
    if not plan.tiny:  # these start processes and take minutes on a CPU
        options = Options(plan.device)
        found["views"] = lambda: views.measure(options)
        found["simclr beside lightly"] = lambda: simclr.measure(options)
    found["launches"] = lambda: [launch_table(plan)]
    return found


def measure(plan: Plan, facts: Facts) -> Outcome:
    todo = work(plan)
    failed = []
    for name, tables in todo.items():
        if plan.is_over:
            break
        if name not in facts:
            try:
                made = tables()
            except Exception as error:  # one that runs out of memory leaves the others
                failed.append(f"{name}: {type(error).__name__}: {error}".splitlines()[0])
                continue
            facts[name] = [table.json() for table in made]
            for table in made:
                info(table.markdown())
    over = {name.removeprefix("step "): facts[name][0]["rows"][0][-1]["median"]
            for name in todo if name in facts and name.startswith("step ")}  # fmt: skip
    line = "step over bare: " + ", ".join(f"{name} {value:.2f}" for name, value in over.items())
    done = all(name in facts for name in todo)
    return Outcome(line + ("" if done else "; not yet all"), tuple(failed), done=done)
