"""The option --devices of the stages that train."""

import os
import sys
from typing import Annotated

import typer


def start_again(context: typer.Context, devices: int) -> int:
    """Start this command once for each device, and end with its exit code; one device, or a process of several: go on.

    `torchrun` starts the processes itself, on one machine or many; then the option is not given.
    """
    if devices == 1 or "WORLD_SIZE" in os.environ or context.resilient_parsing:
        return devices
    from sslpipe.running.processes import run_processes

    raise typer.Exit(run_processes([sys.executable, *sys.orig_argv[1:]], devices))


Devices = Annotated[
    int,
    typer.Option(
        min=1,
        envvar="SSLPIPE_DEVICES",
        callback=start_again,
        help="Number of devices that train together, each in a process of its own; a run-time choice like --device.",
    ),
]
