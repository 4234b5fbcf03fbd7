"""Project → metrics of its pipeline as mean ± standard deviation over seeds and folds of labels."""

from typing import Annotated

import typer

from sslpipe.io import options


def repeat(
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    folds: Annotated[str, typer.Option(help="Folds (draws of the labelled images), separated by commas.")] = "0",
    name: Annotated[str, typer.Option(help="Name of this series of runs, a folder in .sslpipe/repeats.")] = "default",
    target: Annotated[
        list[str] | None, typer.Option(help="Run only this stage and its dependencies; repeatable.")
    ] = None,
    metric: options.Metric = None,
    assignments: options.Assignments = None,
) -> None:
    """Run the pipeline for every seed and fold of labels; print metrics as mean ± standard deviation."""
    from pathlib import Path

    from sslpipe.io.console import info
    from sslpipe.io.files import atomic_folder, read_json, write_csv, write_json
    from sslpipe.io.text import counted
    from sslpipe.metrics.repeats import print_summary, summarise
    from sslpipe.metrics.table import chosen_metrics, labels_title
    from sslpipe.tools.repeats import numbers, plan, read_settings, run_all

    shown, project = chosen_metrics(metric), Path()
    seed, fold = numbers("--seeds", seeds), numbers("--folds", folds)
    repeats = plan(project, name=name, seeds=seed, folds=fold)
    run_all(project, repeats, read_settings(project, folds=fold, assignments=assignments or []), target or [])
    if target and "evaluate" not in target:
        info("no table: evaluate is not among the targets")
        return

    runs = [read_json(repeat.folder / "runs/evaluate/metrics.json") for repeat in repeats]
    rows = [
        {"model": model, "seed": repeat.seed, "fold": repeat.fold, **row}
        for repeat, run in zip(repeats, runs, strict=True)
        for model, row in run.items()
    ]
    summary = summarise(runs)
    with atomic_folder(project / "runs/repeat") as folder:
        settings = {"name": name, "seeds": seed, "folds": fold, "set": assignments or []}
        write_json(folder / "summary.json", {"settings": settings, "models": summary})
        write_csv(folder / "runs.csv", rows)
    title = f"{counted(len(fold), 'fold')} × {counted(len(seed), 'seed')}, protocol {rows[0]['protocol']}"
    print_summary(summary, shown, title + labels_title(rows))
