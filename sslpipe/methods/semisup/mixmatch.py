"""MixMatch (Berthelot et al. 2019, arXiv:1905.02249): averaged, sharpened predictions, and Mixup of all images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sslpipe.data.batches import Pair
from sslpipe.io.settings import Count, CountOrZero, Fraction, NonNegative, Positive
from sslpipe.methods.semisup._base import LabelledMethod, LabelledSettings
from sslpipe.objectives.mixmatch import mixmatch, sharpen
from sslpipe.views.mixing import MixSettings, draw_mix


@dataclass(frozen=True, kw_only=True)
class Settings(LabelledSettings):
    """Defaults: the MixMatch paper's for CIFAR-10 (section 4.1), in FixMatch's batches and schedule."""

    copies: Count = 2
    """K, views of an unlabelled image whose predictions are averaged. More: steadier guessed labels, more time and
    memory."""
    temperature: Positive = 0.5
    """T of the sharpening of guessed labels. Larger: less certain targets; 1: no sharpening."""
    unlabelled_weight: NonNegative = 75.0
    """λ_U, the weight of the squared error of unlabelled images. Larger: guessed labels count more beside the
    labels."""
    ramp: Fraction = 0.4
    """Share of the run in which λ_U rises linearly from 0 (0.4: public code of TorchSSL). Larger: guessed labels count
    fully later, when they are better."""
    ramp_steps: CountOrZero | None = None
    """Number of these steps, used instead of `ramp` if given (the paper, section 4: 16,000; public code of FixMatch and
    of "Boosting SSL", arXiv:2012.00504: 16,384). More: as for `ramp`."""
    mixing: MixSettings = MixSettings(mixup=0.75, cutmix=0.0, dominant=True)


class Method(LabelledMethod):
    """MixMatch, algorithm 1."""

    settings: Settings

    def draw_views(self, batch: Pair, generator: torch.Generator) -> Sequence[Tensor]:
        """A view of each labelled image, and K views of each unlabelled one."""
        copies = batch.unlabelled.image.repeat(self.settings.copies, 1, 1, 1)
        return self.views(batch.labelled.image, generator), self.views(copies, generator)

    def losses(self, batch: Pair, views: Sequence[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Guess labels for the unlabelled images, mix all images, and compute both losses."""
        settings, labelled = self.settings, batch.labelled
        labelled_views, unlabelled_views = views
        guess = self._guess(unlabelled_views)
        truth = one_hot(labelled.label, guess.shape[1]).float()
        every, targets = torch.cat([labelled_views, unlabelled_views]), torch.cat([truth, guess])
        mix = draw_mix(settings.mixing, len(targets), (every.shape[-2], every.shape[-1]), generator)
        sizes = [len(truth), len(guess)]
        logits, unlabelled_logits = torch.split(self.network(mix.images(every)).float(), sizes)
        target, unlabelled_target = torch.split(mix.targets(targets), sizes)
        terms = mixmatch(logits, target, unlabelled_logits, unlabelled_target)
        steps = settings.ramp * self.progress.total if settings.ramp_steps is None else settings.ramp_steps
        ramp = min(1.0, self.progress.step / steps) if steps else 1.0
        return {"loss": terms["labelled"] + ramp * settings.unlabelled_weight * terms["unlabelled"], **terms}

    def chance_loss(self) -> None:
        """None: the unlabelled images are mixed with labelled ones, so their term depends on the mixtures drawn."""
        return

    @torch.no_grad()
    def _guess(self, views: Tensor) -> Tensor:
        """Guessed labels [K·B, C]: the sharpened mean prediction of each image, repeated for its K views."""
        prediction = self.network(views).float().softmax(dim=1)
        copies = self.settings.copies
        mean = prediction.view(copies, -1, prediction.shape[1]).mean(dim=0)
        return sharpen(mean, temperature=self.settings.temperature).repeat(copies, 1)
