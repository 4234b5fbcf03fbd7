"""The report in one file: the groups of each model, with few enough pictures for a mail."""

from collections.abc import Mapping
from typing import Any

from sslpipe.io.console import info
from sslpipe.reporting.groups import MOST
from sslpipe.reporting.pictures import single_pictures
from sslpipe.reporting.shown_images import ShownImages

PICTURES = 1500
"""Pictures in the file (own choice: some 4 MB)."""
LISTS = ("prototypes", "least", "between")


def cut_for_single(
    images: ShownImages, summary: Mapping[str, Any], parts: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[int, bytes]]:
    """Return summary and parts with shorter lists of images in each group, and the JPEG file of each listed image.

    The lists of all groups of all models are equally long, and together about PICTURES; of very many groups each keeps
    one prototype, and a note says how many images are shown of each.
    """
    files = [entry["file"] for entry in summary["models"]]
    groups = sum(len(parts[file]["groups"]) for file in files)
    each = min(MOST, PICTURES // max(groups, 1) // len(LISTS))
    lengths = dict.fromkeys(LISTS, each) if each else {"prototypes": 1, "least": 0, "between": 0}
    kept = dict(parts)
    for file in files:
        shorter = [
            {**group, **{name: group[name][: lengths[name]] for name in LISTS}} for group in parts[file]["groups"]
        ]
        kept[file] = {**parts[file], "groups": shorter}
    notes = list(summary["notes"])
    if each < MOST:
        shown = f"{each} images" if each else "one image"
        notes.append(f"Of each group, {shown} a list are shown; the report in a folder has up to {MOST}.")
        info(f"report: {notes[-1]}")
    wanted = sorted({image for file in files for group in kept[file]["groups"] for image in _listed(group)})
    pictures = dict(zip(wanted, single_pictures(images, wanted), strict=True))
    return {**summary, "notes": notes, "single": True}, kept, pictures


def _listed(group: Mapping[str, Any]) -> list[int]:
    return [*group["prototypes"], *group["least"], *(image for image, _ in group["between"])]
