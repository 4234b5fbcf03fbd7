"""TensorBoard: scalars by step, and sheets of images."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sslpipe.io.errors import UserError

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import image, scalar
except ImportError:
    raise UserError("tensorboard is not installed; pip install 'sslpipe[tensorboard]'") from None

SHOWN_SIDE = 64
"""Images with a smaller side are enlarged to about this many pixels (own choice: TensorBoard enlarges none)."""


class Log:
    """Writes an event file, which `tensorboard --logdir` finds.

    Not torch's SummaryWriter: its thread writes up to two minutes later, and ends with a traceback on a full disk.
    """

    def __init__(self, folder: Path) -> None:
        """Begin a file. A TensorBoard that shows an earlier one drops the points of that, since this has all rows."""
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(0, file_version="brain.Event:2")
        self._write(0, session_log=SessionLog(status=SessionLog.START))

    def row(self, row: Mapping[str, float]) -> None:
        """Add each column as a scalar at the row's step."""
        step = int(row.get("step", 0))
        for name, value in row.items():
            if name != "step":
                self._write(step, summary=scalar(name, value))  # type: ignore[no-untyped-call]

    def images(self, name: str, images: Tensor, step: int) -> None:
        """Add a sheet of images [M, C, H, W] in [0, 1], eight a row, enlarged by a whole factor if they are small."""
        factor = max(1, SHOWN_SIDE // max(images.shape[-2:]))
        large = images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
        sheet = image(name, large.cpu(), dataformats="NCHW")  # type: ignore[no-untyped-call]
        self._write(step, summary=sheet)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        self._records.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
