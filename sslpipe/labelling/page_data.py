"""What the page is told: groups, classes, images of a group, and questions, for JSON."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sslpipe.asking.questions import Question
from sslpipe.io.text import counted
from sslpipe.labelling.collection import Collection
from sslpipe.labelling.results import suggested
from sslpipe.labelling.state import ASIDE, LabelState

FIRST = 24
"""Images of a group that come with the list of groups."""
NEIGHBORS = 5
"""Most similar training images beside a question."""


def groups_part(collection: Collection, state: LabelState) -> list[dict[str, Any]]:
    """Return the groups, the largest by the model first; parts of one that was split follow it."""
    labelled = Counter(int(state.group[image]) for image in state.labels() if image < state.train)
    size = Counter(state.home.tolist())
    order = sorted(state.groups, key=lambda group: (-size[state.root[group]], state.root[group], group))
    entries = []
    for group in order:
        images = state.members(group)
        entries.append(
            {
                "id": group,
                "code": state.codes[group],
                "name": state.groups[group],
                "count": len(images),
                "labelled": labelled[group],
                "first": collection.ordered(images)[:FIRST],
            }
        )
    return entries


def group_part(collection: Collection, state: LabelState, group: int) -> dict[str, Any]:
    """Return the images of a group, or of those set aside, the most typical first. NotThereError for an unknown one."""
    images = collection.ordered(state.members(group))
    return {
        "id": group,
        "images": images,
        "confidence": [_number(collection.confidence[image]) for image in images],
        "label": [state.label(image) for image in images],
        "how": [state.how(image) for image in images],
    }


def classes_part(state: LabelState) -> list[dict[str, Any]]:
    """Return the classes in the order in which they came up: that of the keys 1 to 9."""
    groups, labels = Counter(state.groups.values()), state.labels()
    train = Counter(label for image, label in labels.items() if image < state.train)
    held_out = Counter(label for image, label in labels.items() if image >= state.train)
    return [
        {"name": name, "groups": groups[name], "labels": train[name], "held_out": held_out[name]}
        for name in state.classes()
    ]


def answers_part(state: LabelState) -> dict[str, int]:
    """Return how many labels there are, and how many questions had none."""
    labels = state.labels()
    given = [image for image in state.given if image in labels]
    why = Counter(state.skipped.values())
    return {
        "given": len(given),
        "train": sum(image < state.train for image in given),
        "held_out": sum(image >= state.train for image in given),
        "none": why["none"],
        "unsure": why["unsure"],
        "earlier": len(state.before) - sum(state.files[image] in state.before for image in state.given),
    }


def question_part(collection: Collection, state: LabelState, question: Question) -> dict[str, Any]:
    """Return a question with its image's group and most similar training images."""
    image = question.image + (state.train if question.held_out else 0)
    group = None if question.held_out else int(state.group[image])
    near = collection.asker.neighbors(image, NEIGHBORS)
    return {
        "image": image,
        "kind": question.kind,
        "reason": question.reason,
        "held_out": question.held_out,
        "group": None if group == ASIDE else group,
        "group_name": "" if group is None else state.groups.get(group, ""),
        "suggested": suggested(collection, state, image),
        "label": state.label(image),
        "neighbors": [
            {"image": other, "label": state.label(other), "similarity": round(cosine, 4)} for other, cosine in near
        ],
    }


def described(entry: Mapping[str, Any], codes: Mapping[int, str]) -> str:
    """Return an entry of the journal in a few words, for the button that undoes it."""
    group = f"group {codes.get(entry.get('group', ASIDE), '')}".strip()
    images = entry.get("images", ())
    count = counted(len(images), "image")
    words = {
        "name": f"name ‘{entry.get('name')}’" if entry.get("name") else "no name",
        "merge": "merge",
        "split": "split",
        "move": f"move {count}" if entry.get("group") is not None else f"set {count} aside",
        "confirm": f"label {count} of {group}",
        "answer": f"answer ‘{entry['label']}’" if entry.get("label") else f"answer ‘{entry.get('why')}’",
        "rename": f"rename ‘{entry.get('name')}’",
        "edit": "labels from the table",
    }
    return words[entry["do"]]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def lines(notes: Sequence[str], more: Sequence[str | None]) -> list[str]:
    """Return all sentences that are there, each once."""
    return list(dict.fromkeys([*notes, *(line for line in more if line)]))
