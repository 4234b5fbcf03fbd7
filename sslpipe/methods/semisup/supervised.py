"""Labels alone: the baseline of the methods that also learn from unlabelled images."""

from dataclasses import dataclass

from sslpipe.methods.semisup._base import LabelledMethod, LabelledSettings


@dataclass(frozen=True, kw_only=True)
class Settings(LabelledSettings):
    """Defaults: FixMatch's for CIFAR-10 (arXiv:2001.07685, section 4 and table 4)."""


class Method(LabelledMethod):
    """Cross-entropy on weak views of the labelled images."""
