"""What every model predicts for the images that the report shows, and the features that they are compared by."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.store import SPLITS
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint
from sslpipe.nets.inference import head_output, head_probabilities
from sslpipe.nets.levels import merge_to_level
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.model_file import check_classes, check_data, load_model
from sslpipe.reporting.shown_images import ShownImages
from sslpipe.running.features import StoredFeatures

PIXEL_SIDE = 16
"""Side of the images whose pixels are compared where there is no network (own choice)."""


@dataclass(frozen=True)
class Prediction:
    """The predictions of one model for the N images."""

    name: str
    """As in the table of evaluate, such as cluster or semisup.fixmatch."""
    card: ModelCard
    probability: NDArray[np.float32]
    """[N, K], of each group or class."""
    merged: Sequence[int] | None = None
    """Group of each of the model's own clusters, if these were merged."""
    own_sizes: NDArray[np.int64] | None = None
    """Number of images whose most probable own cluster is each, if these were merged."""

    @property
    def is_classifier(self) -> bool:
        """Whether its outputs are classes."""
        return not self.card.predicts_clusters


@dataclass
class Outputs:
    """Predictions and features of the images, computed from stored features where a model's backbone has them."""

    images: ShownImages
    device: torch.device
    stored: StoredFeatures | None
    """Those of the pretrained backbone."""
    _shared: dict[str, Tensor] = field(default_factory=dict)
    """Fingerprint → features of a backbone that several models have."""

    def predictions(self, models: Mapping[str, Path], groups: int | None = None) -> Iterator[Prediction]:
        """Yield the predictions of each model, one at a time. models: name → folder.

        groups: to which clusters are merged; None: not at all. Raises UserError for a model of other images or classes,
        and as `merge_to_level` does.
        """
        fingerprints = {name: backbone_fingerprint(folder) for name, folder in models.items()}
        count = Counter(fingerprints.values())
        for name, folder in models.items():
            network, card = load_model(folder)
            check_data(card, self.images.store.info, folder)
            network.to(self.device).eval()
            if not card.predicts_clusters:
                check_classes(card, network, self.images.store.info, self.images.store.classes, folder)
            fingerprint = fingerprints[name]
            features = self._features(fingerprint)
            if features is None:
                features = self.images.forward(network.features, self.device, f"features of {name}")
                if count[fingerprint] > 1:
                    self._shared[fingerprint] = features
            merged = own = None
            if card.predicts_clusters and groups is not None:
                outputs = head_output(network, features)
                own = np.bincount(outputs.argmax(dim=1).cpu().numpy(), minlength=outputs.shape[1])
                merged = merge_to_level(network, card, folder, groups, "report.groups")
            yield Prediction(name, card, head_probabilities(network, features), merged, own)

    def _features(self, fingerprint: str) -> Tensor | None:
        if self.stored is not None and fingerprint == self.stored.backbone:
            return self.stored_rows()
        return self._shared.get(fingerprint)

    def stored_rows(self) -> Tensor:
        """Return the stored features of the images, float16 [N, D]."""
        assert self.stored is not None
        rows = [
            self.stored.tensor(split, self.device)[torch.from_numpy(index).to(self.device)]
            for split in SPLITS
            if len(index := self.images.index[split])
        ]
        return torch.cat(rows)

    def compared(self, fallbacks: Mapping[str, Path]) -> tuple[Tensor, str]:
        """Return the features [N, D] by which images are compared, and their source, for a sentence.

        They are the stored ones, else those of the first model in `fallbacks` (name → folder), else pixels.
        """
        if self.stored is not None:
            return self.stored_rows(), "the features of the pretrained network"
        for name, folder in fallbacks.items():
            network, card = load_model(folder)
            check_data(card, self.images.store.info, folder)
            network.to(self.device).eval()
            shared = self._shared.get(backbone_fingerprint(folder))
            if shared is None:
                shared = self.images.forward(network.features, self.device, f"features of {name}")
            return shared, f"the features of {name}"
        return small_pixels(self.images), "pixels, as there is no network"


def small_pixels(images: ShownImages) -> Tensor:
    """Return the pixels of the images, reduced to at most PIXEL_SIDE, as float32 [N, C·S·S] in [0, 1]."""

    def reduced(batch: Tensor) -> Tensor:
        side = min(PIXEL_SIDE, batch.shape[-1])
        return F.adaptive_avg_pool2d(batch, side).flatten(1)

    return images.forward(reduced, torch.device("cpu"), "")
