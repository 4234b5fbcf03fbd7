"""--log tensorboard: what TensorBoard's own reader finds in the event files."""

import resource
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

sys.path.insert(0, str(Path(__file__).parent))
from test_live import SETTINGS, Line, batches

from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.live import Live
from sslpipe.engine.logs.tensorboard import Log
from sslpipe.engine.loop import fit
from sslpipe.io.errors import UserError
from sslpipe.running.watching import find_logs


def found(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    return scalars, {tag: accumulator.Images(tag) for tag in tags["images"]}


def run(folder, checkpoint, **kwargs):
    torch.manual_seed(0)
    sheets = [[("views/1", torch.rand(6, 1, 8, 8), 0)], *[[]] * 20]
    live = Live(folder, logs={"tensorboard": Log}, sheets=lambda: sheets.pop(0))
    try:
        return fit(Line(**kwargs), batches(), SETTINGS, where="", seed=3, checkpoint=checkpoint, live=live).history
    finally:
        live.close()


def test_every_column_is_a_scalar_by_step(tmp_path):
    history = run(tmp_path, Checkpoint(None, 1e9))
    scalars, images = found(tmp_path)
    assert set(scalars) == {"epoch", "lr", "loss", "seconds", "images_per_second", "gradient_norm"}
    for name in ("epoch", "lr", "loss"):
        assert [step for step, _ in scalars[name]] == [row["step"] for row in history]
        assert [value for _, value in scalars[name]] == pytest.approx([row[name] for row in history])
    ((sheet,),) = images.values()
    assert (sheet.width, sheet.height) == (6 * 64, 64)


def test_a_resumed_run_has_no_point_twice(tmp_path):
    checkpoint, folder = Checkpoint(tmp_path / "run", 1e9), tmp_path / "live"
    with pytest.raises(KeyboardInterrupt):
        run(folder, checkpoint, break_at=12)
    assert [step for step, _ in found(folder)[0]["loss"]] == [5, 10]
    history = run(folder, checkpoint)
    assert len(list(folder.glob("events*"))) == 1
    scalars, _ = found(folder)
    assert [step for step, _ in scalars["loss"]] == [5, 10, 15, 20, 25]
    assert [value for _, value in scalars["loss"]] == pytest.approx([row["loss"] for row in history])
    assert [step for step, _ in scalars["gradient_norm"]] == [5, 10, 15, 20, 25]


def test_rows_can_be_read_while_the_run_goes_on(tmp_path):
    log = Log(tmp_path)
    log.row({"step": 3, "loss": 2.0})
    assert found(tmp_path)[0] == {"loss": [(3, 2.0)]}
    log.close()


def test_a_full_disk_does_not_end_the_run(tmp_path, capsys):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limit[1]))  # enough for the two files, but not for the events
    try:
        history = run(tmp_path, Checkpoint(None, 1e9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert len(history) == 5
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tensorboard" in line]
    assert line == "--log tensorboard: [Errno 27] File too large; the run goes on without it"


def test_a_package_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "sslpipe.engine.logs.tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(UserError, match=r"tensorboard is not installed; pip install 'sslpipe\[tensorboard\]'"):
        find_logs(["tensorboard"])


def test_an_unknown_log_is_one_line_with_the_names():
    with pytest.raises(UserError, match=r"--log: unknown name 'tensorbord'; did you mean 'tensorboard'"):
        find_logs(["tensorbord"])
    assert find_logs(None) == find_logs([]) == {}
