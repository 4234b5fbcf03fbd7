"""Fine-tuning with labels alone: the whole network, at a low rate."""

from dataclasses import dataclass

from sslpipe.engine.loop import FitSettings
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.methods.parts.task import Task
from sslpipe.methods.semisup import supervised
from sslpipe.methods.training import Training
from sslpipe.views.policies import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Settings(supervised.Settings):
    """Defaults: Suave's supervised fine-tuning (table 5) at the rates and views of its own recipe (section A.1)."""

    labelled_batch: int = 128
    views: ViewSettings = ViewSettings(
        policy="standard", crop_scale=(0.08, 1.0), brightness=0.1, contrast=0.1, saturation=0.1
    )
    decay: float | None = None
    fit: FitSettings = FitSettings(
        epochs=5,
        batch=256,
        optimizer=OptimizerSettings(name="lars", lr=0.02, momentum=0.9, weight_decay=1e-6),
        schedule=ScheduleSettings(name="cosine", final=0.01),
    )


def tune(settings: Settings, task: Task, training: Training) -> None:
    """Train the start's network on the labelled images."""
    training.train(lambda: supervised.Learner(settings, task), settings, labelled=task.labelled)
