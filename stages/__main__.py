"""The command line: the stages in pipeline order."""

import os
import sys
from typing import Annotated, Any

import typer

from sslpipe.io import options
from sslpipe.io.errors import UserError
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.finetune import finetune
from stages.mine_neighbors import mine_neighbors
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.self_label import self_label
from stages.semisup import semisup


class App(typer.Typer):
    """A user's mistake is one line on stderr and exit code 2."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command that the arguments name."""
        # Threads that spin for long while they wait make torch ten times slower where something else wants a core;
        # those that sleep at once are a third slower on tiny images. Read when torch is loaded, which the stages do.
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
        try:
            return super().__call__(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)


app = App(
    name="sslpipe",
    help="Images with few or no labels: from pixels to groups to a classifier, stage by stage. 'dvc repro' runs all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for stage in (prepare, pretrain, mine_neighbors, cluster, self_label, semisup, finetune, evaluate):
    app.command()(stage)


@app.command()
def table(metric: options.Metric = None) -> None:
    """Show again what the last run reached."""
    from pathlib import Path

    from sslpipe.io.files import read_json
    from sslpipe.metrics.table import chosen_figures, print_table

    figures = chosen_figures(metric)
    purity = read_json(Path("runs/mine-neighbors/metrics.json"))["train"]
    shown = ", ".join(f"{name} {value:.3f}" for name, value in purity.items())
    print(f"training neighbours of the same class: {shown or 'unknown, no labels'}")
    print_table(read_json(Path("runs/evaluate/metrics.json")), figures)


@app.command()
def repeat(
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between.")] = "0,1,2",
    folds: Annotated[str, typer.Option(help="Draws of the labelled images, with commas between.")] = "0",
    name: Annotated[str, typer.Option(help="Of this series of runs, kept in .sslpipe/repeats.")] = "default",
    target: Annotated[list[str] | None, typer.Option(help="A stage: it and what it needs alone; repeatable.")] = None,
    metric: options.Metric = None,
    assignments: options.Assignments = None,
) -> None:
    """Run all stages for every seed and fold of labels: figures as mean ± deviation."""
    from pathlib import Path

    from sslpipe.io.console import say
    from sslpipe.io.files import read_json, whole_folder, write_csv, write_json
    from sslpipe.io.projects import numbers, plan, read_settings, run_all
    from sslpipe.metrics.repeats import print_summary, summarise
    from sslpipe.metrics.table import chosen_figures

    figures, project = chosen_figures(metric), Path()
    seed, fold = numbers("--seeds", seeds), numbers("--folds", folds)
    repeats = plan(project, name=name, seeds=seed, folds=fold)
    run_all(project, repeats, read_settings(project, folds=fold, assignments=assignments or []), target or [])
    if target and "evaluate" not in target:
        say("no table: evaluate is not among the targets")
        return

    runs = [read_json(repeat.folder / "runs/evaluate/metrics.json") for repeat in repeats]
    rows = [
        {"model": model, "seed": repeat.seed, "fold": repeat.fold, **row}
        for repeat, run in zip(repeats, runs, strict=True)
        for model, row in run.items()
    ]
    summary = summarise(runs)
    with whole_folder(project / "runs/repeat") as folder:
        settings = {"name": name, "seeds": seed, "folds": fold, "set": assignments or []}
        write_json(folder / "summary.json", {"settings": settings, "models": summary})
        write_csv(folder / "runs.csv", rows)
    title = f"{_counted(len(fold), 'fold')} × {_counted(len(seed), 'seed')}, protocol {rows[0]['protocol']}"
    labels = sorted({row["labels"] for row in rows if "labels" in row})
    print_summary(summary, figures, f"{title}, {' or '.join(map(str, labels))} labels" if labels else title)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


if __name__ == "__main__":
    app()
