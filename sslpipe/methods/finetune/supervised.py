"""Fine-tuning of the whole network on labels alone, at a low learning rate."""

from dataclasses import dataclass

from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import BelowOne, TwoOrMore
from sslpipe.methods.semisup._base import LabelledMethod, LabelledSettings
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(LabelledSettings):
    """Defaults: Suave's supervised fine-tuning (arXiv:2306.07483, table 5), with section A.1's rates and views."""

    labelled_batch: TwoOrMore = 128
    """Labelled images in a batch. Larger: less noise in a step, more time and memory."""
    views: ViewSettings = ViewSettings(
        policy="standard", crop_scale=(0.08, 1.0), brightness=0.1, contrast=0.1, saturation=0.1
    )
    ema_decay: BelowOne | None = None
    fit: FitSettings = FitSettings(
        epochs=5,
        batch=256,
        optimizer=OptimizerSettings(name="lars", lr=0.02, momentum=0.9, weight_decay=1e-6),
        schedule=ScheduleSettings(name="cosine", final=0.01),
    )


class Method(LabelledMethod):
    """Cross-entropy on views of the labelled images."""
