"""What `sslpipe init --from-scratch` says and writes: how long training takes, and networks that judge its groups."""

import os
from typing import Any

from ruamel.yaml.comments import CommentedMap

from sslpipe.nets.weights_packages import EXTRA, PACKAGES
from sslpipe.tools.features_choice import JUDGES, installed_judges
from sslpipe.tools.yaml_text import in_one_line, put

PAYS = (  # docs/results.md
    "a network is trained from scratch: this pays with many images and a GPU, or for a comparison; with some thousand "
    "images published features give better groups (init without --from-scratch)"
)
JUDGED_IMAGES = 2000
"""Images that are compared (own choice: two networks at 128 px take some 20 ms an image)."""
RATE = 250
"""Images of 32 px that a CPU core trains small_resnet on in a second, by SimCLR (measured: 190 to 280)."""


def put_from_scratch(tree: CommentedMap, images: int, *, gpu: bool) -> list[str]:
    """Let installed networks judge the groups; return lines about the training.

    images: number of images in the folder.
    """
    return [PAYS, *([] if gpu else [_time(tree, images)]), *_put_judges(tree)]


def _time(tree: CommentedMap, images: int) -> str:
    """Return how long pretraining takes on this machine's cores."""
    prepare: Any = tree["prepare"]
    method = str(tree["pretrain"]["method"])
    epochs = int(tree["pretrain"][method]["fit"]["epochs"])
    trained = images * (1 - prepare["test"]) * (1 - prepare["held_out"])
    cores, size = os.cpu_count() or 1, int(prepare["size"])
    minutes = trained * epochs * (size / 32) ** 2 / (RATE * cores * 60)
    about = f"about {minutes:.0f} minutes" if minutes < 120 else f"about {minutes / 60:.0f} hours"
    return (
        f"pretrain takes {about} for {epochs} epochs of {trained:,.0f} images of {size} px on {cores} CPU cores "
        f"(pretrain.{method}.fit.epochs)"
    )


def _put_judges(tree: CommentedMap) -> list[str]:
    """Let the installed packages of weights judge the groups; return a line if there is none."""
    if not (judges := installed_judges()):
        names = ", ".join(PACKAGES)
        return [
            f"the groups are not compared with those of published features, which are not installed; {EXTRA}, and set "
            f"{JUDGES}: [{names}]"
        ]
    put(tree, JUDGES, in_one_line(judges), "published networks: a network's own features flatter its groups")
    put(tree, "cluster.compare.images", JUDGED_IMAGES, "own choice: two judges take some 20 ms an image on a CPU")
    return []
