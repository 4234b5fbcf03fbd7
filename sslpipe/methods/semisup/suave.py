"""Suave (Fini et al. 2023, arXiv:2306.07483): SwAV with one prototype for each class."""

from dataclasses import dataclass

from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.methods.semisup._suave import SuaveMethod, SuaveSettings


@dataclass(frozen=True, kw_only=True)
class Settings(SuaveSettings):
    """Defaults: section A.1, ImageNet."""

    fit: FitSettings = FitSettings(
        epochs=100,
        batch=256,
        optimizer=OptimizerSettings(name="lars", lr=0.4, momentum=0.9, weight_decay=1e-6, scale_all=True),
        schedule=ScheduleSettings(name="cosine", warmup_epochs=5, final=0.0025),
    )


class Method(SuaveMethod):
    """Suave, figure 2."""
