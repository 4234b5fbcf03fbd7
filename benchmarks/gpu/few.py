"""FixMatch and SimMatch with 40 labels of CIFAR-10, side by side on the one GPU, and a linear probe.

They start from the network that the part cifar10 has pretrained, with the settings of the recipes
fixmatch-cifar10-40-short and simmatch-cifar10-40-short but for the start, the learning rate that fits it, and the
steps: as many as fit into the budget, fixed by a short run of both, so that the schedule ends where the training ends.
"""

from typing import Any

from benchmarks.gpu import settings
from benchmarks.gpu.cifar10 import RECIPE, folder_of, replaced
from benchmarks.gpu.commands import Job, StoppedError, run, run_together
from benchmarks.gpu.digits import shown
from benchmarks.gpu.length import rates, that_fit
from benchmarks.gpu.plan import Facts, Outcome, Plan
from sslpipe.io.console import info
from sslpipe.io.files import read_json
from sslpipe.io.params import Params

METHODS = ("fixmatch", "simmatch")
SHARE = 0.3
"""Minutes of both together, over those of training of the part cifar10 (own choice)."""
PARAMS = "few.yaml"
OWN = {"head_init": "logistic", "fit.optimizer.lr": 0.01, "fit.interval": 200}
"""Settings that differ from the recipes', which train from scratch for a hundred times as long (own choice)."""
TINY = {"labelled_batch": 8, "fit.batch": 16, "fit.steps": 6, "fit.interval": 2}
TIMING_STEPS, TINY_STEPS = 600, 4


def semisup() -> dict[str, Any]:
    """Return the block semisup: both methods' settings of their recipes."""
    blocks = {method: settings.recipe(f"{method}-cifar10-40-short").tree["semisup"][method] for method in METHODS}
    return {"methods": {method: {"start": "pretrain"} for method in METHODS}, **blocks}


def changes(plan: Plan) -> dict[str, Any]:
    """Return dotted key → value of the params file of this part, beyond that of the part cifar10."""
    own = {**OWN, **(TINY if plan.tiny else {})}
    return {
        "semisup": semisup(),
        "finetune": {"methods": {"linear": {"start": "pretrain"}}, "linear": {}},
        **{f"semisup.{method}.{key}": value for method in METHODS for key, value in own.items()},
    }


def command(plan: Plan, stage: str, method: str, *further: str, output: str, name: str = "") -> Job:
    """Return the command of a method with labels. name: "" for the method's."""
    arguments = [stage, "--method", method, "--params", PARAMS, "--out", output, "--device", str(plan.device), *further]
    return Job(name or method, arguments, output)


def length(plan: Plan, facts: Facts) -> dict[str, int]:
    """Return method → number of steps, which is measured once."""
    if "steps" not in facts:
        folder, count = folder_of(plan), TINY_STEPS if plan.tiny else TIMING_STEPS
        jobs = {}
        for method in METHODS:
            output, few = f"runs/timing/{method}", f"fit.steps={count}"
            jobs[method] = command(plan, "semisup", method, "--set", few, output=output, name=f"timing-{method}")
        blocks = Params(folder / PARAMS).tree["semisup"]
        seconds = 60 * plan.training_minutes * SHARE
        facts["steps"] = {
            method: that_fit(seconds, 1 / rate, most=blocks[method]["fit"]["steps"])
            for method, rate in rates(plan, folder, jobs, facts).items()
        }
        info(f"steps in {seconds:.0f} s: {facts['steps']}")
    found: dict[str, int] = facts["steps"]
    return found


def measure(plan: Plan, facts: Facts) -> Outcome:
    folder = folder_of(plan)
    if not (folder / "runs/pretrain").exists():
        return Outcome("not measured: the part cifar10 has pretrained no network yet", done=False, possible=False)
    images = Params(folder / "params.yaml").tree["prepare"]["folder"]["path"]
    settings.write(folder / PARAMS, settings.recipe(RECIPE), {**replaced(plan, images), **changes(plan)})
    seconds: dict[str, float] = facts.setdefault("seconds", {})
    try:
        steps = length(plan, facts)
        jobs = []
        for method in METHODS:
            output, length_of = f"runs/semisup/{method}", f"fit.steps={steps[method]}"
            jobs.append(command(plan, "semisup", method, "--set", length_of, output=output))
        seconds |= {name: round(took, 1) for name, took in run_together(plan, folder, jobs).items()}
        run(plan, folder, command(plan, "finetune", "linear", output="runs/finetune/linear"))
        missing = [stage for stage in ("cluster", "self-label") if not (folder / f"runs/{stage}").exists()]
        if missing:
            return Outcome(
                f"trained; to be evaluated when the part cifar10 has {' and '.join(missing)}",
                done=False,
                possible=False,
            )
        output = "runs/evaluate-few"
        arguments = ["evaluate", "--params", PARAMS, "--out", output, "--device", str(plan.device)]
        run(plan, folder, Job("evaluate-few", arguments, output))
    except StoppedError as stopped:
        return Outcome(f"{stopped}, steps {facts.get('steps', {})}", done=False)
    facts["metrics"] = read_json(folder / output / "metrics.json")
    values = ", ".join(f"{model} {value:.3f}" for model, value in shown(facts["metrics"]).items() if "." in model)
    return Outcome(f"{values}; steps {facts['steps']}")
