"""Project → a list of the images that are worth a label."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import completion, options


def ask(
    budget: Annotated[int, typer.Option(min=1, help="Number of questions.")],
    out: Annotated[Path, typer.Option(help="CSV file to write; answers that are in it are kept.")] = Path(
        "questions.csv"
    ),
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a model of groups or of a classifier; by default runs/self-label or runs/cluster, and "
            "runs/semisup/propagation or runs/finetune/linear.",
            autocompletion=completion.models,
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Ask as if no label were known, for experiments.")] = False,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    featured: options.Featured = Path("runs/features"),
    runs: options.Runs = Path("runs"),
    seed: options.Seed = None,
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
) -> None:
    """List the images that are worth a label, the most valuable first, to be labelled in a CSV file."""
    from sslpipe.data.device import choose_device
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params
    from sslpipe.tools.ask import Inputs
    from sslpipe.tools.ask import ask as write_questions

    project = Params(params)
    project.override({"seed": seed})
    inputs = Inputs(
        project=project,
        store=Store(prepared),
        pretrained=pretrained,
        featured=featured,
        runs=runs,
        model=model,
        device=choose_device(device),
    )
    write_questions(inputs, budget, out, anew=anew)
