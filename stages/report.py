"""All outputs → pages to look at: groups, map, duplicates, doubtful labels, metrics."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def report(
    seed: options.Seed = None,
    single: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write only this file, with the groups alone, such as for a mail."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    featured: options.Featured = Path("runs/features"),
    evaluated: Annotated[Path, typer.Option(help="Output folder of evaluate.")] = Path("runs/evaluate"),
    runs: options.Runs = Path("runs"),
    out: options.Out = Path("runs/report"),
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Show groups, map, duplicates, doubtful labels and metrics as pages that open from disk."""
    import webbrowser

    from sslpipe.data.device import choose_device
    from sslpipe.data.store import Store
    from sslpipe.io.console import info
    from sslpipe.io.params import Params
    from sslpipe.io.stage_end import print_end
    from sslpipe.reporting.collect import Inputs, write_report, write_single_report
    from sslpipe.tools.report_lineage import report_lineage

    project = Params(params)
    project.override({"seed": seed}, assignments, stage="report")
    store = Store(prepared)
    inputs = Inputs(
        project=project,
        store=store,
        pretrained=pretrained,
        featured=featured,
        evaluated=evaluated,
        runs=runs,
        lineage=report_lineage(evaluated),
        device=choose_device(device),
    )
    if single:
        write_single_report(inputs, single)
        page = single
    else:
        write_report(inputs, out)
        page = out / "index.html"
    address = page.absolute().as_uri()
    print_end("report", page if single else out, f"report: {address}", project.tree)
    if open_page and not webbrowser.open(address):
        info("report: no browser was found to open it")
