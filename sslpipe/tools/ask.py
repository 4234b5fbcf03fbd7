"""Which images are worth a label: from the outputs of a project to a file of questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sslpipe.asking.questions import (
    COVERS,
    DOUBTFUL,
    RANDOM,
    RANDOM_REASON,
    TYPICAL,
    UNCERTAIN,
    UNCERTAIN_FROM,
    Known,
    Question,
    counts,
    questions,
)
from sslpipe.data.store import UNKNOWN, Store
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.params import Params
from sslpipe.io.text import counted
from sslpipe.preparation.questions_file import Row, write_rows
from sslpipe.tools.ask_models import Outputs
from sslpipe.tools.ask_next import next_step
from sslpipe.tools.ask_rows import last_number, read_kept, read_origin
from sslpipe.tools.asker import Asker, KnownLabels

IN_WORDS = {
    TYPICAL: "most typical of a group without a label",
    COVERS: "similar to many images without a similar labelled one",
    UNCERTAIN: "similar to many uncertain images",
    RANDOM: "random held-out",
    DOUBTFUL: "labels to check, which similar images contradict (filled in; change them if they are wrong)",
}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What questions are chosen from."""

    project: Params
    store: Store
    pretrained: Path
    featured: Path
    runs: Path
    model: Path | None
    """A model of groups, or a classifier; None for those under runs/."""
    device: torch.device


def ask(inputs: Inputs, budget: int, out: Path, *, anew: bool = False) -> None:
    """Write the next `budget` questions to the CSV `out`, with the answers that it and the project have; print them.

    anew: ask as if no label were known, for experiments; `out` must not exist.
    Raises UserError if every training image has a label, if features are missing, and for a file `out` of another kind.
    """
    store, project = inputs.store, inputs.project
    if anew and out.exists():
        raise UserError(f"--anew: {out} exists; name another file, or move it away")
    origin = read_origin(project, store)
    kept = {} if anew else read_kept(out, origin)
    files = [[origin.name.get(name, name) for name in store.files(split)] for split in ("train", "held_out")]
    labels = _labels(store, kept, files, anew=anew)
    if len(labels.index) == store.info.train:
        raise UserError(f"{store.root}: all {store.info.train} training images have a label; nothing to ask")
    asker = Asker.open(store, inputs.pretrained, inputs.featured, inputs.runs, inputs.model, inputs.device)
    if accuracy := asker.accuracy(labels):
        info(accuracy[0])
    known = asker.known(labels, _checked(kept, files[0]))
    asked = questions(known, budget, seed=project.seed)
    _report_sources(known, asker, labels)
    rows = _rows(asked, kept, labels, asker.groups, files)
    write_rows(out, rows)
    _report(asked, budget, out, known, rows)
    info(next_step(out, project, origin))


def _labels(store: Store, kept: dict[str, Row], files: Sequence[Sequence[str]], *, anew: bool) -> KnownLabels:
    """Return the labels that training may use, those of the held-out images, and answers that no stage has read yet.

    files: names of the training images and of the held-out ones in the source.
    """
    train = np.full(store.info.train, UNKNOWN, dtype=np.int64)
    if not anew:
        index, label = store.labelled()
        train[index] = label
    held_out = np.array(store.labels("held_out"))
    place = {name: i for i, name in enumerate(store.classes)}
    in_split = [{name: i for i, name in enumerate(each)} for each in files]
    for row in kept.values():
        number = place.setdefault(row.label, len(place))
        for known, where in zip((train, held_out), in_split, strict=True):
            if row.file in where:
                known[where[row.file]] = number
    asked = [name in kept and kept[name].reason == RANDOM_REASON for name in files[1]]
    random = np.where(asked, held_out, UNKNOWN) if (held_out == UNKNOWN).any() else held_out
    return KnownLabels(train=train, held_out=held_out, random=random, names=tuple(place))


def _checked(kept: dict[str, Row], files: Sequence[str]) -> set[int]:
    """Return the training images with a label before that was asked for."""
    rows = (kept.get(name) for name in files)
    return {image for image, row in enumerate(rows) if row and row.before and row.question}


def _rows(
    asked: Sequence[Question],
    kept: dict[str, Row],
    labels: KnownLabels,
    groups: Outputs | None,
    files: Sequence[Sequence[str]],
) -> list[Row]:
    """The rows of the file: labels that are kept, then the questions; a doubtful label is in its question."""
    number, new = last_number(kept), []
    for question in asked:
        number += 1
        file = files[int(question.held_out)][question.image]
        group, label, before = "", "", ""
        if groups is not None:
            outputs = groups.held_out if question.held_out else groups.train
            group = groups.name(int(outputs[question.image].argmax()))
        if question.kind == DOUBTFUL:
            label = labels.names[labels.train[question.image]]
            # An answer to an earlier question does not take part in the draw of splits.
            before = kept[file].before if file in kept and kept[file].question else label
        new.append(Row(file, label, str(number), question.reason, group, before))
    again = {row.file for row in new}
    return [row for row in kept.values() if row.file not in again] + new


def _report_sources(known: Known, asker: Asker, labels: KnownLabels) -> None:
    """Print what the choice rests on."""
    source = (
        f"groups of {asker.groups.folder}" if asker.groups else "no model of groups found, so none is typical of one"
    )
    info(f"labels known: {len(known.index)} training images, {known.classes} classes; {source}")
    if known.weighs and asker.classifier is not None:
        info(
            f"uncertainty of {asker.classifier.folder} counts, since there are {UNCERTAIN_FROM} labels a class or more"
        )
    if not len(known.held_out):
        info("no held-out images, so no random ones are asked for; set prepare.held_out")
    elif not known.held_out.any():
        info(f"all {len(known.held_out)} held-out images have labels, so none of them is asked for")


def _report(asked: Sequence[Question], budget: int, out: Path, known: Known, rows: Sequence[Row]) -> None:
    """Print how many questions there are for which reason."""
    info(f"{out}: {counted(len(asked), 'question')}, {counted(len(rows) - len(asked), 'earlier label')}")
    for kind, count in counts(asked).items():
        info(f"  {count:>4}  {IN_WORDS[kind]}")
    if len(asked) < budget:
        info(
            f"{budget - len(asked)} fewer than --budget {budget}: the other images are copies of these or of labelled "
            "ones, and add nothing"
        )
