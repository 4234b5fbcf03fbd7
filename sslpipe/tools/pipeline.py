"""The dvc.yaml of a project: the stages in its settings, with sslpipe's version as a dependency instead of its code."""

import ast
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sslpipe.io.errors import UserError
from sslpipe.io.params import find_module, siblings
from sslpipe.io.stages import LABELLED_STAGES, key_of
from sslpipe.nets.weights_packages import PACKAGE
from sslpipe.tools.yaml_text import dump, read_yaml, shipped

HISTORY = "/history.csv"
"""End of the path of a method's history."""
CODE = ("sslpipe/", "stages/")
LISTING = "runs/list-images/files.csv"
LIST_IMAGES = {
    "cmd": "sslpipe list-images",
    "params": [],
    # A list is kept where there are no images, as in a clone with pulled outputs.
    "outs": [{LISTING: {"persist": True}}],
    "always_changed": True,
}
"""The stage that tells DVC whether prepare has to run again."""
HEAD = """\
# The pipeline: 'dvc repro' runs the stages whose inputs have changed. A stage is one command from files to files.
# With another version of sslpipe (params.yaml: sslpipe) all stages run again.
"""


def stages_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the stages of a project in pipeline order: prepare, evaluate, report and all with a block in its settings.

    Raises UserError if a stage reads the outputs of a stage without a block.
    """
    tree = read_yaml(shipped("dvc.yaml"))
    wanted = [name for name in tree["stages"] if _is_there(name, settings)]
    for name in wanted:
        stage = tree["stages"][name]
        for dep in stage.get("do", stage).get("deps", []):
            before = _stage_of(str(dep), tree["stages"])
            # A start, such as ${item.start}, is known by the method alone.
            if before and before in tree["stages"] and before not in wanted and not _may_lack(name, before, settings):
                raise UserError(f"params.yaml: {key_of(before)}: missing, expected a block: {name} reads its outputs")
    return tuple(wanted)


def _may_lack(stage: str, before: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a stage does without the outputs of a stage that dvc.yaml names among its dependencies."""
    if (stage, before) == ("finetune", "features"):  # which its methods compute if they are not there
        return True
    if stage == "semisup" and before in ("features", "mine-neighbors"):
        package, entries = "sslpipe.methods.semisup", settings["semisup"]["methods"]
        if any((entry or {}).get("labels") == "reliable" for entry in entries.values()):
            return False
        modules = (find_module(package, name, where="semisup.methods") for name in entries)
        return not any(getattr(module.Settings, "reads_features", False) for module in modules)
    return stage in ("evaluate", "report")


def pipeline(settings: Mapping[str, Any]) -> str:
    """Return the text of dvc.yaml; settings: the content of params.yaml.

    A folder of images is no dependency of prepare, but a list of its files (sslpipe.preparation.listing).
    """
    wanted = stages_of(settings)
    tree = read_yaml(shipped("dvc.yaml"))
    stages = tree["stages"]
    for name in [name for name in stages if name not in wanted]:
        del stages[name]
    source = settings["prepare"].get("source")
    reads_folder = "path" in (settings["prepare"].get(source) or {})
    for name, stage in stages.items():
        inner = stage.get("do", stage)
        inner["deps"] = [
            dep
            for dep in inner["deps"]
            if not str(dep).startswith(CODE) and (_stage_of(str(dep), tree["stages"]) or "runs/" not in str(dep))
        ]
        if name == "prepare" and reads_folder:
            inner["deps"] = [LISTING]
        elif name == "prepare":
            inner["deps"] = [*inner["deps"], *_chosen_images(settings)]
        if name == "pretrain":
            inner["deps"] = [*inner["deps"], *_weights_files(settings)]
        if not inner["deps"]:
            del inner["deps"]
        # DVC checks the params of methods, which contain ${...}.
        params = [param for param in inner["params"] if "${" in param or str(param).partition(".")[0] in settings]
        inner["params"] = ["sslpipe", *params]
    if reads_folder:
        stages.insert(0, "list-images", {**LIST_IMAGES, "params": ["prepare.source", f"prepare.{source}"]})
    tree["metrics"] = [path for path in tree["metrics"] if _stage_of(str(path), stages)]
    tree["plots"] = [plot for plot in tree["plots"] if _plot_is_there(plot, stages, settings)]
    tree.ca.comment = None  # the comment at its head, which is about this repository
    return HEAD + dump(tree)


def same_pipeline(first: str, second: str) -> bool:
    """Return whether two texts of dvc.yaml are the same but for curves over epochs, which only some methods have."""
    return _without_curves(first) == _without_curves(second)


def _without_curves(text: str) -> list[str]:
    return [line for line in text.splitlines() if not (line.startswith("- ") and HISTORY in line)]


def _is_there(stage: str, settings: Mapping[str, Any]) -> bool:
    block = settings.get(key_of(stage)) or {}
    if stage in LABELLED_STAGES:
        return bool(block.get("methods"))
    if stage == "features":  # it needs no settings
        return all(key in settings for key in ("pretrain", "mine_neighbors"))
    return stage in ("prepare", "evaluate", "report") or key_of(stage) in settings


def _weights_files(settings: Mapping[str, Any]) -> list[str]:
    """Return the files of weights that the stage pretrain reads."""
    pretrain = settings.get("pretrain") or {}
    weights = (pretrain.get("frozen") or {}).get("weights") if pretrain.get("method") == "frozen" else None
    given = weights if isinstance(weights, list) else [weights]
    return [each for each in given if each not in (None, PACKAGE)]


def _chosen_images(settings: Mapping[str, Any]) -> list[str]:
    """Return the table of labelled images that prepare reads; with a folder of images it is in the list of files."""
    labelled = (settings.get("prepare") or {}).get("labelled") or {}
    return [labelled["images"]] if labelled.get("images") else []


def _stage_of(path: str, stages: Mapping[str, Any]) -> str | None:
    """Return the stage that writes a path, which may contain ${...}; None if it is not one of `stages`."""
    parts = Path(path).parts
    if parts[:1] != ("runs",):
        return None
    return parts[1] if parts[1] in stages or parts[1].startswith("${") else None


def _plot_is_there(plot: Mapping[str, Any], stages: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Return whether the stages write every file of a plot.

    Confusion matrices need a stage with labels, and curves over epochs a method that trains in epochs.
    """
    axes = [each[axis] for each in plot.values() for axis in ("x", "y") if isinstance(each.get(axis), Mapping)]
    paths = [str(path) for axis in axes for path in axis]
    knows = any(stage in stages for stage in LABELLED_STAGES)
    return all(
        (stage := _stage_of(path, stages))
        and (knows or "confusion" not in path)
        and (not path.endswith(HISTORY) or _has_epochs(stage, settings))
        for path in paths
    )


def _has_epochs(stage: str, settings: Mapping[str, Any]) -> bool:
    """Return whether the method of a stage trains in epochs, of which its history has a row each."""
    key = key_of(stage)
    package, name = f"sslpipe.methods.{key}", str((settings.get(key) or {}).get("method"))
    return name not in siblings(package) or trains_in_epochs(package, name)


def trains_in_epochs(package: str, name: str) -> bool:
    """Return whether a method trains in epochs, as told by its text, since its import takes seconds.

    The Settings of a method that does not have a field `fit` of type None.
    """
    spec = find_spec(f"{package}.{name}")
    assert spec is not None
    assert spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            return not any(
                isinstance(each, ast.AnnAssign) and ast.unparse(each) == "fit: None = None" for each in node.body
            )
    return True
