"""Model and new images → predictions."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def predict(
    model: options.Model,
    images: Annotated[list[Path], typer.Argument(help="Image files and folders of images.")],
    out: Annotated[
        Path,
        typer.Option(help="File to write, .csv or .parquet; as metadata.csv beside the images, load_dataset reads it."),
    ] = Path("predictions.csv"),
    neighbors: Annotated[
        int, typer.Option(min=0, help="Number of nearest training images to list for each image.")
    ] = 5,
    names: Annotated[
        Path | None, typer.Option(help="CSV file with the columns cluster and class: names of clusters.")
    ] = None,
    groups: options.Groups = None,
    sort: Annotated[
        Path | None,
        typer.Option(
            "--sort-into", metavar="DIR", help="Copy the images into a folder for each class or cluster, in a new DIR."
        ),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="With --sort-into: symbolic links instead of copies.")] = False,
    below: Annotated[
        float | None,
        typer.Option("--review", min=0, metavar="CONFIDENCE", help="List the images with less confidence, 0 to 1."),
    ] = None,
    prepared: options.Prepared = Path("runs/prepare"),
    featured: options.Featured = Path("runs/features"),
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of pixels of an image; by default 178,956,970.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes; by default one per core.")] = None,
    device: options.Device = "auto",
) -> None:
    """Predict class or cluster, confidence and nearest training images for new images."""
    from sslpipe.data.device import choose_device
    from sslpipe.decoding.pixels import MAX_PIXELS
    from sslpipe.io.console import info
    from sslpipe.io.errors import UserError
    from sslpipe.io.own_process import available_cores
    from sslpipe.io.stages import CLUSTER_STAGES, LABELLED_STAGES
    from sslpipe.io.text import counted, listed, shown
    from sslpipe.nets.levels import clusters_of, merge_to_level
    from sslpipe.nets.model_file import load_model
    from sslpipe.tools.cluster_names import check_names, read_names
    from sslpipe.tools.predict import Files, Predictor, check_out, open_bank, predict
    from sslpipe.tools.sorting import check_folder, read_predictions, review, sort_into

    if link and sort is None:
        raise UserError("--link: only with --sort-into DIR")
    if sort is not None:
        check_folder(sort, images)
    called = read_names(names) if names else {}
    files = Files(images)
    inputs = [Path(entry.name) for entry in files.entries]
    check_out(out, [*inputs, model / "model.json", *([names] if names else [])])
    network, card = load_model(model)
    merge_to_level(network, card, model, groups, "--groups")
    if names and card.predicts_clusters:
        check_names(names, called, clusters_of(network), model)
    predictor = Predictor(network, card, choose_device(device))
    if predictor.card.stage not in (*CLUSTER_STAGES, *LABELLED_STAGES) and (sort is not None or below is not None):
        raise UserError(f"{model}: predicts neither classes nor clusters, which --sort-into and --review need")
    bank = None
    if neighbors and (prepared / "store.json").exists():
        bank = open_bank(model, predictor.card, predictor.network, prepared, featured, predictor.device)
    elif neighbors:
        info(f"{prepared}: no training images found, so no nearest training images are listed")
    summary = predict(
        predictor,
        files,
        out,
        workers=workers or available_cores(),
        bank=bank,
        k=neighbors,
        names=called,
        max_pixels=max_pixels or MAX_PIXELS,
    )
    for file, reason in list(summary.broken.items())[:10]:
        info(f"broken: {shown(file)}: {reason}")
    if summary.further:
        info(f"{counted(summary.further, 'file')} with further pages, frames or channels, not used")
    if files.ignored:
        others = listed(f"{count:,} {shown(suffix)}" for suffix, count in files.ignored.most_common())
        info(f"other files skipped: {others}")
    if summary.clipped:
        info(f"{counted(summary.clipped, 'image')} with values beyond the model's range, clipped")
    more = f", listed in {out}" if len(summary.broken) > 10 else ""
    counts = ", ".join(f"{count} {name}" for name, count in summary.predictions.most_common(10))
    info(
        f"{out}: {counted(summary.images, 'image')}, {len(summary.broken)} of them broken{more}"
        + (f"; {counts}" if counts else "")
    )
    if sort is not None or below is not None:
        predictions = read_predictions(out, inputs)
        if below is not None:
            review(predictions, below, out)
        if sort is not None:
            sort_into(sort, predictions, link=link)
