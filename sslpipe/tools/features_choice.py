"""Which published features a new project has, and which of them judge its groups.

The former are what `sslpipe init --features` names, and may have to be downloaded; the latter are installed packages.
"""

from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from sslpipe.io.errors import UserError
from sslpipe.io.text import listed
from sslpipe.nets.known_features import DEFAULT, KnownFeatures, known_features
from sslpipe.nets.weights_packages import EXTRA, PACKAGE, PACKAGES, package_of
from sslpipe.tools.folder_summary import relative
from sslpipe.tools.yaml_text import in_one_line, put

JUDGES, REPLACE = "cluster.compare.judges", "cluster.compare.replace"


def installed_judges(besides: str = "") -> list[str]:
    """Return the architectures whose weights are installed as packages, other than one, with or without its tag."""
    base = besides.partition(".")[0]
    return [name for name, package in PACKAGES.items() if name != base and package.path() is not None]


@dataclass(frozen=True, kw_only=True)
class FeaturesChoice:
    """The published features of a new project."""

    known: KnownFeatures
    side: int
    """Side of the squares that the networks see, pixels."""
    download: bool
    """Whether weights that are not on this machine may be downloaded."""

    def put_into(self, tree: CommentedMap, folder: Path) -> None:
        """Write the blocks `network` and `pretrain`, and the size of stored images; folder: of the project."""
        networks = self.known.networks
        weights = [
            each.weights if each.weights in (None, PACKAGE) else relative(Path(str(each.weights)), folder)
            for each in networks
        ]
        licences = "; ".join(f"{each.megabytes} MB, {each.licence}" for each in networks)
        meanings = {
            PACKAGE: f"package: an installed package of weights ({EXTRA})",
            None: "null: timm's own weights",
        }
        meaning = "; ".join(dict.fromkeys(meanings.get(each, "a file") for each in weights))
        put(tree, "network.architecture", self.known.architecture, licences)
        put(tree, "pretrain.frozen.weights", weights[0] if len(weights) == 1 else in_one_line(weights), meaning)
        put(tree, "pretrain.frozen.side", self.side, "pixels; whole images are resized to it for the networks")
        put(tree, "pretrain.frozen.download", self.download, "whether timm's weights may be downloaded")
        put(tree, "prepare.size", self.side)
        if len(networks) == 1:
            self._put_judges(tree)

    def _put_judges(self, tree: CommentedMap) -> None:
        """Let other networks judge the groups found on those of a single one; several networks judge each other's."""
        if judges := installed_judges(self.known.architecture):
            put(tree, JUDGES, in_one_line(judges), "a network's own features flatter groups that are found on them")
        else:
            why = (
                "its own features flatter groups that are found on them, and no package of another network is installed"
            )
            put(tree, REPLACE, False, f"{why}; {EXTRA}, then {JUDGES}")

    def lines(self) -> list[str]:
        """Return what the features are, with sizes, licences and sources, a line each."""
        networks = self.known.networks
        joined = " of two networks, joined" if len(networks) == 2 else f" of {len(networks)} networks, joined"
        lines = [f"published features{joined if len(networks) > 1 else ''}, at {self.side} px, used without training:"]
        for each in networks:
            fetched = "" if each.is_here else ", which 'sslpipe pretrain' fetches"
            licence = f"licence {each.licence}" if each.licence == "unknown" else each.licence
            lines.append(f"  {each.architecture}: {each.megabytes} MB, {licence}; {each.source}{fetched}")
        return lines


def choose_features(name: str | None, *, download: bool, gpu: bool) -> FeaturesChoice:
    """Return the features of a name, as `known_features` knows it; None: those of the extra offline-features.

    Raises UserError for an unknown name, and for weights that are not on this machine: packages that are not installed,
    and without `download` those of the hub.
    """
    known = known_features(name or DEFAULT)
    if missing := known.missing_packages:
        packages = listed([package_of(each).distribution for each in missing])
        ways = f"{EXTRA}, or --features dinov2_s --download, or --from-scratch"
        raise UserError(f"--features: not installed: {packages}; choose one of: {ways}")
    if known.needs_download and not download:
        away = [each for each in known.networks if not each.is_here]
        what = "; ".join(f"{each.architecture}, {each.megabytes} MB, {each.licence}, {each.source}" for each in away)
        raise UserError(f"--features: not on this machine: {what}; --download lets 'sslpipe pretrain' fetch it")
    return FeaturesChoice(known=known, side=known.gpu_side if gpu else known.side, download=download)
