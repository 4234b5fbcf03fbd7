"""The images on the page, with what the stages found: groups, typical images, neighbours and predictions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.asking.typical import typicality
from sslpipe.data.store import Store
from sslpipe.io.files import sha256
from sslpipe.io.params import Params
from sslpipe.nets.model_paths import weights_path
from sslpipe.preparation.labels_file import NO_LABEL, NO_LABEL_SETTING
from sslpipe.preparation.questions_file import questions_in
from sslpipe.tools.ask_rows import Origin, read_origin
from sslpipe.tools.asker import Asker
from sslpipe.tools.yaml_text import at


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the outputs of the stages are."""

    prepared: Path
    pretrained: Path
    featured: Path
    runs: Path
    model: Path | None
    """The model whose groups are shown; None for the one under runs/."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """N training images, which are shown in groups, and M held-out ones, which are only asked for."""

    project: Params
    store: Store
    origin: Origin
    asker: Asker
    key: str
    """Hash of the model that made the groups; names of groups hold only for it."""
    home: NDArray[np.int64]
    """[N], group of each training image by the model; 0 for all without a model."""
    confidence: NDArray[np.float64]
    """[N], the model's probability of that group; NaN without a model."""
    typical: NDArray[np.float64]
    """[N], how typical an image is of its group."""
    files: tuple[str, ...]
    """[N + M], the file of each image, as its source names it."""

    @classmethod
    def open(cls, params: Path, seed: int | None, folders: Folders, device: torch.device) -> "Collection":
        """Read the project and the outputs of its stages. Raises UserError for what is missing or does not fit."""
        project = Params(params)
        project.override({"seed": seed})
        store = Store(folders.prepared)
        origin = read_origin(project, store)
        asker = Asker.open(store, folders.pretrained, folders.featured, folders.runs, folders.model, device)
        names = [*store.files("train"), *store.files("held_out")]
        count, groups = store.info.train, asker.groups
        home = groups.group if groups else np.zeros(count, np.int64)
        return cls(
            project=project,
            store=store,
            origin=origin,
            asker=asker,
            key=sha256(weights_path(groups.folder)) if groups else "",
            home=home,
            confidence=groups.train.max(axis=1).astype(np.float64) if groups else np.full(count, np.nan),
            typical=typicality(asker.similar.index, asker.similar.cosine, home),
            files=tuple(origin.name.get(name, name) for name in names),
        )

    @property
    def table(self) -> Path | None:
        """The project's table of labels if it is a file of questions; None if it has none."""
        return next((table for table in self.origin.tables if table.exists() and questions_in(table)), None)

    @property
    def no_label(self) -> tuple[str, ...]:
        """Texts that mean, in tables of the project, that an image has no label."""
        given = at(self.project.tree, NO_LABEL_SETTING)
        return tuple(given) if given is not None else NO_LABEL

    @property
    def kind(self) -> str:
        """What the groups are: "groups" of a model, "classes" of a classifier, or "none", all images in one."""
        groups = self.asker.groups
        return "none" if groups is None else "classes" if groups.classes else "groups"

    @property
    def fixed(self) -> dict[int, str]:
        """Names of groups that are a classifier's classes; {} for other groups."""
        return dict(enumerate(self.asker.groups.classes)) if self.asker.groups else {}

    def ordered(self, images: NDArray[np.int64]) -> list[int]:
        """Return training images in the order of the page, the most typical first."""
        found: list[int] = images[np.argsort(-self.typical[images], kind="stable")].tolist()
        return found

    def halves(self, images: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
        """Return the images of the smaller part if these are split by k-means with two centres; [] if all are alike."""
        from sklearn.cluster import KMeans  # slow to import

        vectors = self.asker.similar.vectors[images]
        if len(images) < 2 or (vectors == vectors[0]).all():
            return images[:0]
        side = KMeans(2, n_init=10, random_state=seed).fit_predict(vectors)
        smaller: NDArray[np.int64] = images[side == int(side.sum() * 2 <= len(side))]
        return smaller
