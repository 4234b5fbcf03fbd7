"""Command-line options that several stages share."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import completion
from sslpipe.io.own_process import processes_started

ParamsPath = Annotated[Path, typer.Option("--params", help="File with the settings.")]
Seed = Annotated[int | None, typer.Option(help="Seed of all random numbers (params: seed).")]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda, cuda:N or mps; a run-time choice that affects neither results nor caching."),
]


def start_again(context: typer.Context, devices: int) -> int:
    """Start this command once for each device, and end with its exit code; one device, or one of the processes: go on.

    `torchrun` starts the processes itself, on one machine or many; then the option is not given.
    """
    if devices == 1 or processes_started() > 1 or context.resilient_parsing:
        return devices
    from sslpipe.io.processes import run_processes

    raise typer.Exit(run_processes([sys.executable, "-m", "sslpipe", *sys.argv[1:]], devices))


Devices = Annotated[
    int,
    typer.Option(
        min=1,
        envvar="SSLPIPE_DEVICES",
        callback=start_again,
        help="Number of devices that train together, each in a process of its own; a run-time choice like --device.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another setting, for this run only; repeatable."),
]
Prepared = Annotated[Path, typer.Option(help="Output folder of prepare.")]
Pretrained = Annotated[Path, typer.Option(help="Output folder of pretrain.")]
Runs = Annotated[Path, typer.Option(help="Folder with the output folders of all stages.")]
Featured = Annotated[Path, typer.Option("--features", help="Output folder of features.")]
Mined = Annotated[Path, typer.Option(help="Output folder of mine-neighbors.")]
Clustered = Annotated[Path, typer.Option(help="Output folder of cluster.")]
SelfLabelled = Annotated[Path, typer.Option(help="Output folder of self-label.")]
Out = Annotated[Path, typer.Option(help="Folder to write; replaced if it exists.")]
MethodOut = Annotated[Path | None, typer.Option("--out", help="Folder to write; runs/<stage>/<method> by default.")]
Epochs = Annotated[int | None, typer.Option(help="Number of passes over the images (params: fit.epochs).")]
Batch = Annotated[int | None, typer.Option(help="Images per step (params: fit.batch).")]
CheckpointSeconds = Annotated[
    float,
    typer.Option(help="Minimum number of seconds between checkpoints, more if they take long; 0: after every step."),
]
Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="NAME",
        envvar="SSLPIPE_LOG",
        help="Where the history goes as well while the stage runs: tensorboard; repeatable. It affects no result.",
        autocompletion=completion.logs,
    ),
]
MethodName = Annotated[
    str | None, typer.Option("--method", help="Name of the method (params: method).", autocompletion=completion.methods)
]
Model = Annotated[
    Path, typer.Argument(help="Folder of a model, such as runs/self-label.", autocompletion=completion.models)
]
Groups = Annotated[
    int | None, typer.Option(help="Number of groups that the model's clusters are merged to; by default its own.")
]
Metric = Annotated[str | None, typer.Option(help="Show only this metric, such as cluster-acc.")]
