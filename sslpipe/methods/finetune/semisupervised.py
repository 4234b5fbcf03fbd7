"""Suave's fine-tuning (Fini et al. 2023, arXiv:2306.07483, sections 4 and A.1): Suave's objective on lighter views.

The start is a Suave model: its backbone and its projection are kept, its prototypes are not.
"""

from dataclasses import dataclass
from typing import Literal

from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import CountOrZero
from sslpipe.methods.semisup._suave import SuaveMethod, SuaveSettings
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(SuaveSettings):
    """Defaults: section A.1, for 1 % of ImageNet's labels (5 epochs for 10 %)."""

    views: ViewSettings = ViewSettings(
        policy="standard", crop_scale=(0.08, 1.0), brightness=0.1, contrast=0.1, saturation=0.1
    )
    projection_init: Literal["random", "pretrained"] = "pretrained"
    global_views: ViewSettings = ViewSettings(policy="plain", crop_scale=(0.08, 1.0), flip=0.5)
    local_crops: CountOrZero = 0
    """Number of small local views of each image (SwAV, arXiv:2006.09882). More: more terms of the loss for each image,
    more time and memory."""
    fit: FitSettings = FitSettings(
        epochs=3,
        batch=256,
        optimizer=OptimizerSettings(name="lars", lr=0.02, momentum=0.9, weight_decay=1e-6, scale_all=True),
        schedule=ScheduleSettings(name="cosine", final=0.01),
    )


class Method(SuaveMethod):
    """Suave, figure 2."""
