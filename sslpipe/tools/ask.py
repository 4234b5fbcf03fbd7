"""Which images are worth a label: from the outputs of a project to a file of questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray

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
from sslpipe.io.own_programs import repro_command
from sslpipe.io.params import Params
from sslpipe.io.text import counted, shown
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.preparation.questions_file import Row, write_rows
from sslpipe.reporting import label_doubts
from sslpipe.reporting.neighbors import Similar, find_similar
from sslpipe.running.features import open_features
from sslpipe.tools.ask_models import Outputs, calibrated, find_outputs, held_out_line
from sslpipe.tools.ask_rows import Origin, last_number, read_kept, read_origin
from sslpipe.tools.folder_summary import relative

NEIGHBORS = 50
"""Neighbours of each image in the kernel (own choice, on letters in typefaces and drawings: with 10 labels a linear
probe on Lite0's features has 0.69 and 0.97, with the 20 of SCAN 0.66 and 0.85, with all 0.67 and 0.92)."""
LEAST_HELD_OUT = 20
"""Labelled held-out images from which a classifier's confidence is set by its accuracy on them (own choice)."""
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
    labels = _labels(store, kept, origin, anew=anew)
    index = np.flatnonzero(labels.train != UNKNOWN)
    if len(index) == store.info.train:
        raise UserError(f"{store.root}: all {store.info.train} training images have a label; nothing to ask")
    stored = open_features(inputs.featured, store, inputs.pretrained)
    groups, classifier = find_outputs(inputs.runs, inputs.model, store, stored, inputs.device)
    similar = find_similar(stored.tensor("train", inputs.device), NEIGHBORS, inputs.device)
    known = Known(
        neighbors=similar.index,
        cosine=similar.cosine,
        index=index,
        classes=len(np.unique(labels.train[index])),
        group=groups.group if groups else None,
        group_names=groups.classes if groups else (),
        probability=_probability(classifier, labels, similar, inputs.device),
        doubtful=_doubtful(labels, similar, kept, inputs.device),
        held_out=labels.held_out == UNKNOWN,
    )
    asked = questions(known, budget, seed=project.seed)
    _report_sources(known, groups, classifier, labels)
    rows = _rows(asked, kept, labels, groups, origin)
    write_rows(out, rows)
    _report(asked, budget, out, known, rows)
    info(_next(out, project, origin))


@dataclass(frozen=True)
class _Labels:
    """Labels known of the training images, [N], and the held-out ones, [M], UNKNOWN for none, and their names."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    random: NDArray[np.int64]
    """[M], as `held_out`, but only of random images: all if all have labels, else those that `ask` asked for."""
    names: tuple[str, ...]
    train_files: Sequence[str]
    held_out_files: Sequence[str]


def _labels(store: Store, kept: dict[str, Row], origin: Origin, *, anew: bool) -> _Labels:
    """The labels that training may use, those of the held-out images, and answers that no stage has read yet."""
    train = np.full(store.info.train, UNKNOWN, dtype=np.int64)
    if not anew:
        index, label = store.labelled()
        train[index] = label
    held_out = np.array(store.labels("held_out"))
    files = [[origin.name.get(name, name) for name in store.files(split)] for split in ("train", "held_out")]
    names = list(store.classes)
    place = {name: i for i, name in enumerate(names)}
    in_split = [{name: i for i, name in enumerate(each)} for each in files]
    for row in kept.values():
        number = place.setdefault(row.label, len(place))
        for known, where in zip((train, held_out), in_split, strict=True):
            if row.file in where:
                known[where[row.file]] = number
    asked = [name in kept and kept[name].reason == RANDOM_REASON for name in files[1]]
    random = np.where(asked, held_out, UNKNOWN) if (held_out == UNKNOWN).any() else held_out
    return _Labels(train, held_out, random, tuple(place), files[0], files[1])


def _given(labels: _Labels, similar: Similar, device: torch.device) -> label_doubts.Labelled | None:
    """The labelled training images with their neighbours among them; None if there are too few to vote."""
    index = np.flatnonzero(labels.train != UNKNOWN)
    if len(index) <= label_doubts.VOTERS or len(np.unique(labels.train[index])) < 2:
        return None
    vectors = similar.vectors[index]
    near, cosine = nearest_neighbors(vectors, k=label_doubts.VOTERS, device=device)
    return label_doubts.Labelled(labels.train[index], vectors, near, cosine, len(labels.names))


def _doubtful(labels: _Labels, similar: Similar, kept: dict[str, Row], device: torch.device) -> list[tuple[int, str]]:
    """The training images whose label the others contradict, but for those that were asked again before."""
    given = _given(labels, similar, device)
    if given is None:
        return []
    index = np.flatnonzero(labels.train != UNKNOWN)
    place, suggested, margin = label_doubts.doubts(given)
    found = []
    for i in np.lexsort((place, margin)).tolist():
        image = int(index[place[i]])
        row = kept.get(labels.train_files[image])
        if margin[i] < 0 and not (row and row.before and row.question):
            was, other = (labels.names[each] for each in (given.label[place[i]], suggested[i]))
            found.append((image, f"check {was!r}: similar images say {other!r}"))
    return found


def _probability(
    classifier: Outputs | None, labels: _Labels, similar: Similar, device: torch.device
) -> NDArray[np.float64] | None:
    """The classifier's probabilities, as confident as it is accurate on labels that it has not seen."""
    if classifier is None:
        return None
    line, accuracy = held_out_line(classifier, labels.random)
    info(line)
    if accuracy is not None and int((labels.random != UNKNOWN).sum()) >= LEAST_HELD_OUT:
        return calibrated(classifier.train, accuracy)
    given = _given(labels, similar, device)
    if given is None:
        return classifier.train.astype(np.float64)
    right = [rows.argmax(axis=1) == given.label[part] for part, rows in label_doubts.probabilities(given)]
    return calibrated(classifier.train, float(np.concatenate(right).mean()))


def _rows(
    asked: Sequence[Question], kept: dict[str, Row], labels: _Labels, groups: Outputs | None, origin: Origin
) -> list[Row]:
    """The rows of the file: labels that are kept, then the questions; a doubtful label is in its question."""
    number, new = last_number(kept), []
    for question in asked:
        number += 1
        file = (labels.held_out_files if question.held_out else labels.train_files)[question.image]
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


def _report_sources(known: Known, groups: Outputs | None, classifier: Outputs | None, labels: _Labels) -> None:
    """Print what the choice rests on."""
    source = f"groups of {groups.folder}" if groups else "no model of groups found, so none is typical of one"
    info(f"labels known: {len(known.index)} training images, {known.classes} classes; {source}")
    if known.weighs and classifier is not None:
        info(f"uncertainty of {classifier.folder} counts, since there are {UNCERTAIN_FROM} labels a class or more")
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


def _next(out: Path, project: Params, origin: Origin) -> str:
    """The next commands, in words."""
    if origin.complete:
        return f"next, as the source has all labels, for an experiment: prepare.labelled: {{images: {out}}}"
    fill = f"next: fill in the column label of {shown(str(out))}, in order as far as you like, then"
    if any(table.exists() and out.samefile(table) for table in origin.tables):
        return f"{fill}\n  {repro_command()}"
    if "sslpipe" in project.tree:
        return f"{fill}\n  sslpipe init . --labels {quote(str(out))} && {repro_command()}"
    return f"{fill} set prepare.folder.labels: {relative(out, Path())} and run {repro_command()}"
