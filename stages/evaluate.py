"""All models → metrics on the test images."""

from pathlib import Path

from sslpipe.io import options


def evaluate(
    metric: options.Metric = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    clustered: options.Clustered = Path("runs/cluster"),
    self_labelled: options.SelfLabelled = Path("runs/self-label"),
    featured: options.Featured = Path("runs/features"),
    runs: options.Runs = Path("runs"),
    out: options.Out = Path("runs/evaluate"),
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Evaluate every model on the test images, which no other stage reads.

    A model is evaluated if its stage has a block in params.yaml.
    """
    from sslpipe.data.device import choose_device
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params
    from sslpipe.io.stage_end import print_end
    from sslpipe.io.stages import TRAINING_STAGES, key_of
    from sslpipe.metrics.table import chosen_metrics, highest, print_table
    from sslpipe.running.evaluation import evaluate_project

    shown = chosen_metrics(metric)
    project = Params(params)
    project.override({"seed": seed}, assignments, stage="evaluate")
    # DVC runs other stages only for keys that they read; evaluate runs for every one in these blocks.
    project.check_stages({stage: f"sslpipe.methods.{stage}" for stage in map(key_of, TRAINING_STAGES)})
    metrics = evaluate_project(
        project,
        Store(prepared),
        pretrained=pretrained,
        clustered=clustered,
        self_labelled=self_labelled,
        featured=featured,
        runs=runs,
        out=out,
        device=choose_device(device),
    )
    print_table(metrics, shown)
    print_end("evaluate", out, f"evaluate: {highest(metrics)}", project.tree)
