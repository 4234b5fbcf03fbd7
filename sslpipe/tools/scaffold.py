"""A project for a folder of images: its files, git and DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.io.files import write_bytes
from sslpipe.io.stages import LABELLED_STAGES
from sslpipe.tools import recipes
from sslpipe.tools.autoconfig import OWN, fit_batches, settings_for, training_images, versioned
from sslpipe.tools.folder_summary import FolderSummary, relative, scan_folder
from sslpipe.tools.pipeline import pipeline
from sslpipe.tools.yaml_text import at, laid_out, put, read_yaml

GITIGNORE = "/runs/\n/exported/\n/.sslpipe/\n.venv/\n"
DVCIGNORE = ".sslpipe/\n.venv/\nexported/\n"


@dataclass(frozen=True)
class ProjectSummary:
    """What was done, for the lines that init ends with."""

    seen: FolderSummary
    files: tuple[str, ...]
    """Written, or initialised."""
    model: str
    """The one to predict with, as a folder under runs/."""


def new_project(folder: Path, images: Path, labels: Path | None, recipe: str | None) -> ProjectSummary:
    """Set up a project in a folder that is none yet. Raises UserError before anything is written."""
    for name in ("params.yaml", "dvc.yaml"):
        if (folder / name).exists():
            raise UserError(f"{folder / name}: is there already; name another folder, or move it away")
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(images)):
        raise UserError(f"DIR: {folder} lies within {images}, expected a folder outside of the images")
    seen = scan_folder(images, labels)
    named = relative(images, folder), relative(labels, folder) if labels else None
    tree = settings_for(recipe or (OWN if torch.cuda.is_available() else f"{OWN}-cpu"), seen, *named)
    title = f"# {Path(os.path.abspath(folder)).name}: made by 'sslpipe init'. What is absent takes its default.\n\n"
    files = {
        "params.yaml": title + laid_out(tree),
        "dvc.yaml": pipeline(tree, _inputs(tree)),
        ".gitignore": GITIGNORE,
        ".dvcignore": DVCIGNORE,
    }
    files = {name: text for name, text in files.items() if not (folder / name).exists()}
    for name, text in files.items():
        write_bytes(folder / name, text.encode())
    return ProjectSummary(seen, (*files, *_initialise(folder)), _best(tree))


def add_labels(folder: Path, labels: Path | None) -> ProjectSummary:
    """Let the project in a folder use labels: the stages that need them join it, and nothing else changes.

    Raises UserError where there is no project of `init` or its dvc.yaml was changed by hand, before anything is
    written.
    """
    params = folder / "params.yaml"
    if not params.exists() or labels is None:
        missing = "--images" if labels is None else f"{params}"
        raise UserError(f"{missing}: missing; a new project needs --images, one that is there takes --labels alone")
    tree = read_yaml(params)
    path = at(tree, "prepare.folder.path")
    if "sslpipe" not in tree or path is None:
        raise UserError(f"{params}: not made by 'sslpipe init' for a folder; set prepare.folder.labels by hand")
    old = pipeline(tree, _inputs(tree))
    if (folder / "dvc.yaml").read_text(encoding="utf-8") != old:
        raise UserError(f"{folder / 'dvc.yaml'}: changed since 'sslpipe init' wrote it; add the labels' stages by hand")
    seen = scan_folder(folder / path, labels)
    put(tree, "prepare.folder.labels", relative(labels, folder), str(seen))
    recipe = recipes.load(str(tree["recipe"]))
    for stage in LABELLED_STAGES:
        if stage not in tree and stage in recipe.settings:
            put(tree, stage, recipe.settings[stage])
            fit_batches(tree, training_images(tree, seen), recipe.card.images_at_most, stages=(stage,))
    write_bytes(params, laid_out(tree).encode())
    write_bytes(folder / "dvc.yaml", pipeline(tree, _inputs(tree)).encode())
    return ProjectSummary(seen, ("params.yaml", "dvc.yaml"), _best(tree))


def use_recipe(name: str, folder: Path, *, force: bool = False) -> tuple[str, ...]:
    """Write a recipe's params.yaml and dvc.yaml into a folder; returns their names.

    Raises UserError where one is there already, unless `force` says to write over it.
    """
    recipe = recipes.load(name)
    tree = versioned(recipe.settings)
    source = at(tree, f"prepare.{at(tree, 'prepare.source')}.path")
    texts = {
        "params.yaml": recipes.written(replace(recipe, settings=tree)),
        "dvc.yaml": pipeline(tree, [source] if source else []),
    }
    for path in (folder / file for file in texts):
        if path.exists() and not force:
            raise UserError(f"{path}: is there already; --force writes over it, or name another folder")
    for file, text in texts.items():
        write_bytes(folder / file, text.encode())
    return tuple(texts)


def _inputs(tree: CommentedMap) -> list[str]:
    """What prepare reads."""
    return [path for path in (at(tree, "prepare.folder.path"), at(tree, "prepare.folder.labels")) if path]


def _best(tree: CommentedMap) -> str:
    """The last model of the line: a classifier where there is one."""
    for stage in LABELLED_STAGES:
        for method in at(tree, f"{stage}.methods") or ():
            return f"{stage}/{method}"
    return "self-label" if "self_label" in tree else "cluster" if "cluster" in tree else "pretrain"


def _initialise(folder: Path) -> list[str]:
    """Make the folder a git and a DVC project, as far as it is none; returns what was made."""
    made = []
    git = shutil.which("git")
    in_git = git and _run([git, "rev-parse", "--show-toplevel"], folder, must=False)
    if git and not in_git:
        _run([git, "init", "--quiet"], folder)
        made.append("git")
    if not (folder / ".dvc").exists():
        # In a repository of which it is only a part, DVC wants to be told so; without git it keeps no history.
        part = ["--subdir"] if in_git and Path(in_git).resolve() != folder.resolve() else []
        _run([sys.executable, "-m", "dvc", "init", "--quiet", *(part if git else ["--no-scm"])], folder)
        made.append("dvc")
    return made


def _run(command: Sequence[str], folder: Path, *, must: bool = True) -> str:
    """What a command prints; "" where it fails and need not succeed. Raises UserError where it must."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        if must:
            line = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise UserError(f"{folder}: {' '.join(command[:3])} failed: {''.join(line)}")
        return ""
    return done.stdout.strip()
