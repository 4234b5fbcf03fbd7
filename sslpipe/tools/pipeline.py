"""dvc.yaml of a project of one's own: the stages that its settings have, and sslpipe's version in place of its code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslpipe.io.errors import UserError
from sslpipe.io.stages import LABELLED_STAGES, key_of
from sslpipe.tools.yaml_text import dump, read_yaml, shipped

CODE = ("sslpipe/", "stages/")
HEAD = """\
# The pipeline: 'dvc repro' runs what has changed. Each stage: files in, one command, files out.
# Another version of sslpipe (params.yaml: sslpipe) runs all of them again.
"""


def stages_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages of a project, in order: those with a block in its settings; prepare and evaluate always.

    Raises UserError where a stage's block is there and that of the one it goes on from is not.
    """
    tree = read_yaml(shipped("dvc.yaml"))
    wanted = [name for name in tree["stages"] if _is_there(name, settings)]
    for name in wanted:
        for dep in tree["stages"][name].get("deps", []):
            before = _stage_of(str(dep), tree["stages"])
            if before and before not in wanted and name != "evaluate":
                raise UserError(f"params.yaml: {key_of(before)}: missing, expected a block: {name} reads its outputs")
    return tuple(wanted)


def pipeline(settings: Mapping[str, Any], inputs: list[str]) -> str:
    """The text of dvc.yaml.

    settings: the content of params.yaml. inputs: what prepare reads: the folder of images, a file of labels; none for a
    data set that is fetched.
    """
    wanted = stages_of(settings)
    tree = read_yaml(shipped("dvc.yaml"))
    stages = tree["stages"]
    for name in [name for name in stages if name not in wanted]:
        del stages[name]
    for name, stage in stages.items():
        inner = stage.get("do", stage)
        inner["deps"] = [
            dep
            for dep in inner["deps"]
            if not str(dep).startswith(CODE) and (_stage_of(str(dep), tree["stages"]) or "runs/" not in str(dep))
        ]
        if name == "prepare":
            inner["deps"] = inputs
        if not inner["deps"]:
            del inner["deps"]
        inner["params"] = ["sslpipe", *(param for param in inner["params"] if _param_is_there(str(param), settings))]
    tree["metrics"] = [path for path in tree["metrics"] if _stage_of(str(path), stages)]
    tree["plots"] = [plot for plot in tree["plots"] if _plot_is_there(plot, stages)]
    tree.ca.comment = None  # its head, which is about this repository
    return HEAD + dump(tree)


def _is_there(stage: str, settings: Mapping[str, Any]) -> bool:
    block = settings.get(key_of(stage)) or {}
    if stage in LABELLED_STAGES:
        return bool(block.get("methods"))
    return stage in ("prepare", "evaluate") or key_of(stage) in settings


def _stage_of(path: str, stages: Mapping[str, Any]) -> str | None:
    """The stage that writes a path; None if it is none of these. ${...} stands for whatever its key says."""
    parts = Path(path).parts
    if parts[:1] != ("runs",):
        return None
    return parts[1] if parts[1] in stages or parts[1].startswith("${") else None


def _param_is_there(param: str, settings: Mapping[str, Any]) -> bool:
    """Whether a param's block is in the settings; those of a method are looked for by DVC."""
    return "${" in param or param.partition(".")[0] in settings


def _plot_is_there(plot: Mapping[str, Any], stages: Mapping[str, Any]) -> bool:
    """Whether the stages write every file that a plot reads; evaluate knows classes where other stages do."""
    axes = [each[axis] for each in plot.values() for axis in ("x", "y") if isinstance(each.get(axis), Mapping)]
    paths = [path for axis in axes for path in axis]
    knows = any(stage in stages for stage in LABELLED_STAGES)
    return all(_stage_of(str(path), stages) and (knows or "confusion" not in path) for path in paths)
