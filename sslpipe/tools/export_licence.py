"""The licence of a model's weights, as far as it is known: that of the published networks that it was made from."""

from collections.abc import Iterator
from dataclasses import dataclass

from sslpipe.io.errors import UserError
from sslpipe.nets.architecture_names import names_of
from sslpipe.nets.timm_backbone import timm_config
from sslpipe.nets.weights_packages import PACKAGE, package_of
from sslpipe.tools.lineage import Artifact
from sslpipe.tools.report_lineage import every

UNKNOWN, OTHER = "unknown", "other"
HUB = frozenset({"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "gemma"})
"""The hub's own names of licences, of those that timm's weights have (documentation of Hugging Face's hub, page
"Licenses"); another one is `other` there, with its name in license_name."""


@dataclass(frozen=True)
class Licence:
    """The licence of weights."""

    identifier: str
    """As the hub names it: one of HUB, other, unknown."""
    name: str | None
    """Name of another one."""
    sentence: str
    """What is known, for people."""


def licence_of(artifact: Artifact) -> Licence:
    """Return the licence of a model's weights by what it was made from."""
    models = [each for each in every(artifact) if each.kind == "model"]
    published = [each for each in models if each.settings.get("method") == "frozen" and each.stage == "pretrain"]
    lost = any(each.path is None for each in models)
    if not published:
        sentence = (
            "A model that this one was made from was not found, so the licence of the weights is not known."
            if lost
            else "The weights were trained from scratch: their owner chooses the licence; set `license` above."
        )
        return Licence(UNKNOWN, None, sentence)
    found = list(dict.fromkeys(pair for each in published for pair in _published(each)))
    names = list(dict.fromkeys(name for _, name in found))
    what = "; ".join(f"{architecture}: {name}" for architecture, name in found)
    sentence = f"Licences of the published weights that the model was made from: {what}."
    if UNKNOWN in names or lost:
        return Licence(UNKNOWN, None, f"{sentence} Not all are known; set `license` above.")
    sentence += " The head was trained with the project's own images."
    if len(names) == 1 and names[0] in HUB:
        return Licence(names[0], None, sentence)
    return Licence(OTHER, "-and-".join(names), sentence)


def _published(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Yield the architecture and the licence of each published network of a model."""
    names = names_of(str(artifact.metadata.get("network", "")))
    given = artifact.settings.get("weights")
    weights = list(given) if isinstance(given, list | tuple) else [given] * len(names)
    for name, source in zip(names, weights, strict=False):
        try:
            if source is None:
                yield name, timm_config(name).license or UNKNOWN
            elif source == PACKAGE:
                yield name, package_of(name).licence.lower()
            else:
                yield name, UNKNOWN
        except UserError:  # another version of timm, or of the packages
            yield name, UNKNOWN
