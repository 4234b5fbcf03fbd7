"""A model's answers for new images."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a model, such as runs/self-label.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    neighbors: Annotated[int, typer.Option(min=0, help="Nearest training images to name for each image.")] = 5,
    names: Annotated[Path | None, typer.Option(help="A CSV with columns cluster,class: names for groups.")] = None,
    prepared: options.Prepared = Path("runs/prepare"),
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes; by default one a core.")] = None,
    device: options.Device = "auto",
) -> None:
    """Say class or group, confidence and nearest training images of new images."""
    from sslpipe.data.decode import available_cores
    from sslpipe.data.device import choose_device
    from sslpipe.data.image_files import shown
    from sslpipe.io.console import info
    from sslpipe.nets.model_file import load_model
    from sslpipe.tools.predict import Files, Predictor, open_bank, predict, read_names

    called = read_names(names) if names else {}
    files = Files(images)
    predictor = Predictor(*load_model(model), choose_device(device))
    bank = None
    if neighbors and (prepared / "store.json").exists():
        bank = open_bank(model, predictor.card, predictor.network, prepared, predictor.device)
    elif neighbors:
        info(f"{prepared}: no training images there, no neighbours are named")
    summary = predict(predictor, files, out, workers=workers or available_cores(), bank=bank, k=neighbors, names=called)
    for file, reason in list(summary.broken.items())[:10]:
        info(f"left out: {shown(file)}: {reason}")
    more = f", listed in {out}" if len(summary.broken) > 10 else ""
    answers = ", ".join(f"{count} {name}" for name, count in summary.answers.most_common(10))
    info(
        f"{out}: {summary.images} images, {len(summary.broken)} of them broken{more}"
        + (f"; {answers}" if answers else "")
    )
