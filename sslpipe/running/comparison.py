"""The table of candidates of the stage cluster, and the choice of its result."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sslpipe.data.samples import sampled
from sslpipe.io.console import info
from sslpipe.io.files import write_csv
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._on_features import neighbors_of
from sslpipe.methods.cluster._problem import Neighborhood
from sslpipe.metrics.table import print_cells
from sslpipe.nets.inference import infer
from sslpipe.nets.model_file import load_network
from sslpipe.nets.network import Network, pixel_network
from sslpipe.running.candidates import COMPONENTS, NOTHING, Candidate, Judges, Known, candidates_of, spaces_of
from sslpipe.running.features import StoredFeatures
from sslpipe.running.inputs import Choice, Inputs
from sslpipe.running.judges import judge_features, judge_network, published_without_training
from sslpipe.running.levels import Levels

TABLE = "candidates.csv"


class Comparison:
    """Compares the model of the stage cluster with plain baselines, and chooses which of them is the result."""

    def __init__(
        self, inputs: Inputs, *, pretrained: Path, stored: StoredFeatures, train: Neighborhood, exact: bool
    ) -> None:
        """Load the judges, so that errors come before a training.

        pretrained: folder of the network whose features are stored. train: of the stage's problem, with these features.
        exact: whether its neighbours are the exact nearest ones in these features. Raises UserError as `judge_network`
        does.
        """
        self.inputs, self.pretrained, self.stored, self.train, self.exact = inputs, pretrained, stored, train, exact
        self.settings: CompareSettings = inputs.settings.compare
        self.published = published_without_training(pretrained)
        self.judge = judge_network(self.settings, self.published, channels=inputs.store.info.channels)

    def __call__(self, folder: Path, network: Network, logits: Tensor | None) -> Choice:
        """Print the table of candidates, write it to a folder, and return the network that becomes the result.

        network: the stage's model. logits: its predictions [N, K] for the training images, if they are known.
        """
        settings, images, seed = self.settings, self.inputs.images, self.inputs.project.seed
        index = torch.from_numpy(sampled(len(images), settings.images, seed))
        few = images.subset(index)
        predicted = infer(network.eval(), few) if logits is None else logits[index.to(logits.device)]
        clusters = predicted.shape[1]
        if clusters >= len(index):
            return Choice(network)
        judges = Judges(self.judge, judge_features(self.judge, few, self.inputs.store)) if self.judge else None
        spaces = spaces_of(
            load_network(self.pretrained, self.inputs.store.info).to(images.device),
            self.stored.tensor("train", torch.device("cpu"))[index],
            pixel_network(self.inputs.store.info).to(images.device),
            few,
            published=self.published,
            judges=judges,
            neighbors=settings.neighbors,
            known=self._known() if len(index) == len(images) else NOTHING,
        )
        groups = predicted.argmax(dim=1).cpu().numpy()
        found = candidates_of(groups, self.inputs.method, spaces, few, clusters=clusters, seed=seed)
        rows = [{"candidate": each.name, "rank": each.rank, **each.figures} for each in found]
        write_csv(folder / TABLE, rows)
        cells = [  # a long name of joined networks is wrapped at its spaces
            [each.name.replace("+", " + "), *(f"{value:.3f}" for value in (each.rank, *each.figures.values()))]
            for each in found
        ]
        title = f"cluster: candidates by neighbour modularity, {len(index)} images, no labels"
        print_cells(title, ["candidate", "rank", *found[0].figures], cells)
        return self._choose(network, found)

    def _known(self) -> Known:
        """What the stage has of the features of all training images."""
        return Known(neighbors_of(self.train) if self.exact else None, self.train.pca(COMPONENTS))

    def _choose(self, network: Network, found: Sequence[Candidate]) -> Choice:
        """Return the stage's model, or a better baseline's if that is set; print a line unless it is clearly the best.

        found: all candidates, the best first.
        """
        gap = self.settings.gap
        own = next(each for each in found if each.method is None)
        best = next(each for each in found if each.method is not None)
        if own.rank > best.rank + gap:
            return Choice(network)
        method, numbers = self.inputs.method, f"{own.rank:.3f} and {best.rank:.3f}, without labels"
        if best.rank <= own.rank + gap:
            info(f"cluster: {method} is not clearly better than {best.name} ({numbers}; cluster.compare.gap: {gap:g})")
            return Choice(network)
        worse = f"cluster: {method} is worse than {best.name} ({numbers})"
        if not self.settings.replace:
            info(f"{worse}; it is kept; cluster.compare.replace: true keeps the better one")
            return Choice(network)
        assert best.method is not None
        chosen = best.method.selected()
        if chosen.side != network.side:
            info(f"{worse}; it is kept, since network.side is set; set it to null to keep the better one")
            return Choice(network)
        info(
            f"{worse}, which becomes the result; the model of {method} is kept in the folder trained "
            "(cluster.compare.replace: false makes it the result)"
        )
        by_means = self.inputs.settings.levels.by == "means"
        levels = Levels(neighbors_of(best.method.train_set), best.method.features if by_means else None)
        tree = levels.tree(best.method.training_logits())
        return Choice(chosen.to(self.inputs.images.device), {"chosen": best.name}, tree)
