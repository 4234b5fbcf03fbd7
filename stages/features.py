"""Images → features of every image by the pretrained backbone."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def features(
    runtime: Annotated[str | None, typer.Option(help="auto, torch or onnxruntime (params: features.runtime).")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per forward (params: features.batch).")] = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    out: options.Out = Path("runs/features"),
    device: options.Device = "auto",
    devices: options.Devices = 1,
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Compute the features of every image by the pretrained backbone, once for all later stages."""
    from sslpipe.data import world
    from sslpipe.data.device import choose_device
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params
    from sslpipe.io.stage_end import print_end
    from sslpipe.running.feature_pass import write_features
    from sslpipe.running.feature_runtime import FeatureSettings

    project = Params(params)
    project.override({"features.runtime": runtime, "features.batch": batch}, assignments, stage="features")
    found_device = choose_device(device)
    with world.joined(found_device):
        found = write_features(
            project.parse(FeatureSettings, "features"),
            Store(prepared),
            pretrained,
            out,
            found_device,
            checkpoint_seconds=checkpoint_seconds,
        )
    if found:
        print_end("features", out, f"features: {found}", project.tree)
