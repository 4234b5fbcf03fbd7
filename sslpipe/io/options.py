"""Command-line options that several stages share."""

from pathlib import Path
from typing import Annotated

import typer

ParamsPath = Annotated[Path, typer.Option("--params", help="The settings' file.")]
Seed = Annotated[int | None, typer.Option(help="Seed of every random draw (params: seed).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; no setting, it enters no result.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, for this run; repeatable.")
]
Prepared = Annotated[Path, typer.Option(help="What prepare wrote.")]
Pretrained = Annotated[Path, typer.Option(help="What pretrain wrote.")]
Runs = Annotated[Path, typer.Option(help="Where the folders of all stages lie.")]
Mined = Annotated[Path, typer.Option(help="What mine-neighbors wrote.")]
Clustered = Annotated[Path, typer.Option(help="What cluster wrote.")]
SelfLabelled = Annotated[Path, typer.Option(help="What self-label wrote.")]
Out = Annotated[Path, typer.Option(help="Folder to write, replaced whole.")]
MethodOut = Annotated[Path | None, typer.Option("--out", help="Folder to write; runs/<stage>/<method> by default.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the images (params: fit.epochs).")]
Batch = Annotated[int | None, typer.Option(help="Images a step (params: fit.batch).")]
CheckpointSeconds = Annotated[float, typer.Option(help="A snapshot to resume from, at most once in so many seconds.")]
MethodName = Annotated[str | None, typer.Option("--method", help="Method by name (params: method).")]
Metric = Annotated[str | None, typer.Option(help="Show one figure alone, such as cluster-acc.")]
