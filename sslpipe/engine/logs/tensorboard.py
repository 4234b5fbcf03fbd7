"""TensorBoard: scalars by step, and sheets of images."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sslpipe.io.errors import UserError

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    raise UserError("tensorboard is not installed; pip install 'sslpipe[tensorboard]'") from None

SHOWN_SIDE = 64
"""Images with a smaller side are enlarged to about this many pixels (own choice: TensorBoard enlarges none)."""


class Log:
    """Writes event files in a folder, in which `tensorboard --logdir` finds them."""

    def __init__(self, folder: Path) -> None:
        """Begin a new event file. A TensorBoard that shows an earlier one drops its points, since this has all rows."""
        self._writer = SummaryWriter(str(folder), purge_step=0)

    def row(self, row: Mapping[str, float]) -> None:
        """Add each column as a scalar at the row's step, and write them to the disk."""
        step = int(row.get("step", 0))
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def images(self, name: str, images: Tensor, step: int) -> None:
        """Add a sheet of images [M, C, H, W] in [0, 1], eight a row, enlarged by a whole factor if they are small."""
        factor = max(1, SHOWN_SIDE // max(images.shape[-2:]))
        large = images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
        self._writer.add_images(name, large.cpu(), step)

    def close(self) -> None:
        """Write what is left and end the writer's thread."""
        self._writer.close()
