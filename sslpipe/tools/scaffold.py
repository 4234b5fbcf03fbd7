"""Set up a project for a folder of images: settings, pipeline, git and DVC."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from ctypes import CDLL
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.io.files import files_together
from sslpipe.io.stages import LABELLED_STAGES, key_of
from sslpipe.io.text import shown
from sslpipe.preparation.folder_layout import LayoutName
from sslpipe.tools import recipes
from sslpipe.tools.autoconfig import (
    FEATURES,
    OWN,
    fit_batches,
    limit_to_mined,
    settings_for,
    training_images,
    versioned,
)
from sslpipe.tools.features_choice import FeaturesChoice, choose_features
from sslpipe.tools.folder_summary import FolderSummary, relative, scan_folder
from sslpipe.tools.from_scratch import put_from_scratch
from sslpipe.tools.pipeline import pipeline, same_pipeline, stages_of
from sslpipe.tools.replaced_labels import replaced_labels
from sslpipe.tools.yaml_text import HEAD, SCHEMA, at, laid_out, put, read_yaml, shipped

GITIGNORE = "/runs/\n/dvc_plots/\n/exported/\n/.sslpipe/\n.venv/\n"
DVCIGNORE = ".sslpipe/\n.venv/\nexported/\n"


@dataclass(frozen=True)
class ProjectSummary:
    """What init did, for its last messages."""

    images: FolderSummary
    """Summary of the folder of images."""
    files: tuple[str, ...]
    """Files that were written; git and dvc if they were initialised."""
    model: str
    """The model to predict with, as a folder under runs/."""
    notes: tuple[str, ...] = ()
    """What is trained and run, a line each."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a new project is made of; by default published features whose weights are installed as packages."""

    features: str | None = None
    """Name of published features, as `known_features` has them; None: the default ones."""
    download: bool = False
    """Whether their weights may be downloaded."""
    from_scratch: bool = False
    """Whether a network is trained from scratch, by the recipe own-images or, without a GPU, own-images-cpu."""
    recipe: str | None = None
    """Name of another recipe."""

    def __post_init__(self) -> None:
        given = [("--features", self.features), ("--from-scratch", self.from_scratch), ("--recipe", self.recipe)]
        if len(names := [option for option, value in given if value]) > 1:
            raise UserError(f"{names[0]}: found together with {names[1]}; give one of them")
        if self.download and not self.features:
            raise UserError("--download: needs --features, which names what may be downloaded")

    def resolve(self, *, gpu: bool) -> tuple[str, FeaturesChoice | None]:
        """Return the name of the recipe, and its published features; raises UserError as `choose_features` does."""
        if self.from_scratch:
            return (OWN if gpu else f"{OWN}-cpu"), None
        if self.recipe not in (None, FEATURES):
            return str(self.recipe), None
        return FEATURES, choose_features(self.features, download=self.download, gpu=gpu)


def new_project(
    folder: Path, images: Path, labels: Path | None, choice: Choice, layout: LayoutName | None = None
) -> ProjectSummary:
    """Set up a project in a folder without one; raises UserError before anything is written.

    layout: the meaning of the sub-folders of `images`, None for the one that is recognised.
    """
    for name in ("params.yaml", SCHEMA, "dvc.yaml"):
        if (folder / name).exists():
            raise UserError(f"{folder / name}: already exists; name another folder or move the file")
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(images)):
        raise UserError(f"DIR: {folder} is inside {images}, expected a folder outside of the images")
    gpu = has_gpu()
    recipe, features = choice.resolve(gpu=gpu)
    summary = scan_folder(images, labels, layout)
    paths = relative(images, folder), relative(labels, folder) if labels else None
    tree = settings_for(recipe, summary, *paths, features, folder)
    about = features.lines() if features else []
    if choice.from_scratch:
        about = put_from_scratch(tree, summary.images, gpu=gpu)
    text = pipeline(tree)
    name = shown(Path(os.path.abspath(folder)).name)
    title = f"# {name}: created by 'sslpipe init'. Absent keys have their defaults.\n\n"
    inside = Path(os.path.realpath(images)).is_relative_to(os.path.realpath(folder))
    ignored = ignore_line(relative(images, folder)) if inside else ""
    files = {
        "params.yaml": HEAD + title + laid_out(tree),
        SCHEMA: shipped(SCHEMA).read_text(encoding="utf-8"),
        "dvc.yaml": text,
        ".gitignore": _with_lines(folder / ".gitignore", GITIGNORE + ignored),
        ".dvcignore": _with_lines(folder / ".dvcignore", DVCIGNORE + ignored),
    }
    with files_together(folder, files):
        initialised = _initialise(folder)
    return ProjectSummary(summary, (*files, *initialised), _last_model(tree), (*about, _stages_line(tree)))


def add_labels(folder: Path, labels: Path | None) -> ProjectSummary:
    """Add labels to the project in a folder, and the stages that need labels; nothing else changes.

    Raises UserError, before anything is written, if `init` did not create the project or its dvc.yaml was changed.
    """
    params = folder / "params.yaml"
    if not params.exists() or labels is None:
        missing = "--images" if labels is None else f"{params}"
        raise UserError(f"{missing}: missing; a new project needs --images, an existing project only --labels")
    tree = read_yaml(params)
    path = at(tree, "prepare.folder.path")
    if "sslpipe" not in tree or path is None:
        raise UserError(f"{params}: not created by 'sslpipe init'; set prepare.folder.labels by hand")
    if not same_pipeline((folder / "dvc.yaml").read_text(encoding="utf-8"), pipeline(tree)):
        raise UserError(
            f"{folder / 'dvc.yaml'}: changed since 'sslpipe init' wrote it; add the stages that need labels by hand"
        )
    summary = scan_folder(folder / os.path.expanduser(path), labels, at(tree, "prepare.folder.layout"))
    assert summary.source is not None
    replaced = replaced_labels(folder, tree, labels, summary.source)
    put(tree, "prepare.folder.labels", relative(labels, folder), str(summary))
    recipe = recipes.load(str(tree["recipe"]))
    for stage in LABELLED_STAGES:
        if stage not in tree and stage in recipe.settings:
            put(tree, stage, recipe.settings[stage])
            fit_batches(tree, training_images(tree, summary), recipe.card.images_at_most, stages=(stage,))
    limit_to_mined(tree)
    with files_together(folder, {"params.yaml": laid_out(tree), "dvc.yaml": pipeline(tree)}):
        pass
    return ProjectSummary(summary, ("params.yaml", "dvc.yaml"), _last_model(tree), (*replaced, _stages_line(tree)))


def use_recipe(name: str, folder: Path, *, force: bool = False) -> tuple[str, ...]:
    """Write a recipe's params.yaml with its schema and dvc.yaml into a folder and return their names.

    force: overwrite existing files; without it, UserError is raised for an existing file.
    """
    recipe = recipes.load(name)
    tree = versioned(recipe.settings)
    texts = {
        "params.yaml": HEAD + recipes.written(replace(recipe, settings=tree)),
        SCHEMA: shipped(SCHEMA).read_text(encoding="utf-8"),
        "dvc.yaml": pipeline(tree),
    }
    for path in (folder / file for file in texts):
        if path.exists() and not force:
            raise UserError(f"{path}: already exists; overwrite it with --force or name another folder")
    with files_together(folder, texts):
        pass
    return tuple(texts)


def _can_be_loaded(library: str) -> bool:
    """Return whether the system has a library; `find_library` would start a compiler, with files of its own."""
    try:
        CDLL(library)
    except OSError:
        return False
    return True


def has_gpu() -> bool:
    """Return whether torch can use an NVIDIA GPU; torch is only asked, and imported, where there is a driver of one."""
    programs = [shutil.which("nvidia-smi"), *filter(_can_be_loaded, ("libcuda.so.1", "nvcuda.dll"))]
    if not any(programs) and not Path("/dev/nvidiactl").exists() and not Path("/proc/driver/nvidia").exists():
        return False
    import torch

    return torch.cuda.is_available()


def ignore_line(path: str) -> str:
    """Return the line of .gitignore for a folder: special characters are escaped, and ? stands for a line break."""
    escaped = re.sub(r"([\\*?\[])", r"\\\1", path)
    return re.sub(r"[\n\r]", "?", f"/{escaped}/") + "\n"


def _with_lines(path: Path, lines: str) -> str:
    """Return the text of a file, which may not exist, with those of some lines that it lacks."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    missing = [line for line in lines.splitlines() if line not in text.splitlines()]
    return "\n".join([*text.splitlines(), *missing, ""])


def _last_model(tree: CommentedMap) -> str:
    """Return the last model of the pipeline, a classifier if there is one."""
    for stage in LABELLED_STAGES:
        for method in at(tree, f"{stage}.methods") or ():
            return f"{stage}/{method}"
    return "self-label" if "self_label" in tree else "cluster" if "cluster" in tree else "pretrain"


def _stages_line(tree: CommentedMap) -> str:
    """Return the stages that `dvc repro` runs, with the methods of each."""
    stages = []
    for stage in stages_of(tree):
        block = tree.get(key_of(stage)) or {}
        methods = block.get("methods") or ([block["method"]] if "method" in block else [])
        stages.append(f"{stage} ({', '.join(methods)})" if methods else stage)
    return f"stages: {', '.join(stages)}"


def _initialise(folder: Path) -> list[str]:
    """Initialise git and DVC in a folder unless they are; returns the names of those that were initialised."""
    initialised = []
    git = shutil.which("git")
    in_git = git and _run([git, "rev-parse", "--show-toplevel"], folder, must=False)
    if git and not in_git:
        _run([git, "init", "--quiet"], folder)
        initialised.append("git")
    if not (folder / ".dvc").exists():
        # DVC needs --subdir in a subfolder of a repository, and --no-scm without git.
        part = ["--subdir"] if in_git and Path(in_git).resolve() != folder.resolve() else []
        _run([sys.executable, "-m", "dvc", "init", *(part if git else ["--no-scm"])], folder)
        initialised.append("dvc")
    return initialised


def _run(command: Sequence[str], folder: Path, *, must: bool = True) -> str:
    """Return the output of a command. If it fails, UserError is raised if it `must` succeed, else "" is returned."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        if must:
            reason = " ".join((done.stderr.strip() or done.stdout.strip()).split())
            raise UserError(f"{folder}: {' '.join(command[:3])} failed: {reason}")
        return ""
    return done.stdout.strip()
