"""A checkpoint is written without a copy of the state, and less often if it takes long."""

import tracemalloc

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from sslpipe.engine import checkpoint as module
from sslpipe.engine import tensor_file
from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.tensor_file import NAMES, PIECE, _pieces, write_tensors


class Bank(BaseMethod):
    def __init__(self, rows=1):
        super().__init__()
        self.net = nn.Linear(2, 1)
        self.register_buffer("rows", torch.randn(rows, 128))

    def draw_views(self, batch, generator):
        return None

    def losses(self, batch, views, generator):
        return {"loss": self.net.weight.sum()}


def save(checkpoint, rows=1):
    method = Bank(rows)
    checkpoint.save(State(step=3), method, torch.optim.SGD(method.parameters(), lr=0.1))
    return method


class Clock:
    """A clock on which `write_tensors` takes some seconds."""

    def __init__(self, monkeypatch, takes):
        self.now, self.takes = 100.0, takes
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "write_tensors", self.write)

    def write(self, path, tensors, metadata):
        self.now += self.takes
        path.write_bytes(b"")


def test_every_type_layout_and_size_is_read_back_by_safetensors(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file, "PIECE", 24)
    tensors = {f"of {kind}": (torch.arange(-4, 9) * 3).to(kind).reshape(13, 1) for kind in NAMES}
    tensors |= {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "permuted": torch.randn(4, 3, 2, 5).permute(0, 3, 1, 2),
        "strided": torch.randn(9, 9)[::2, 1:4],
        "broadcast": torch.randn(1, 5).expand(7, 5),
        "with gradient": torch.randn(3, requires_grad=True),
        "Größe.Ω": torch.ones(1),
    }
    write_tensors(tmp_path / "file", tensors, {"text": '{"a": "ä"}'})
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == {"text": '{"a": "ä"}'}


def test_a_tensor_is_written_from_its_own_memory_in_pieces():
    value = torch.randn(PIECE // 4 + 100)
    pieces = list(_pieces(value))
    assert [len(piece) for piece in pieces] == [PIECE, 400]
    assert [piece.data_ptr() - value.data_ptr() for piece in pieces] == [0, PIECE]


def test_no_copy_of_the_state_is_made(tmp_path, monkeypatch):
    copied = []
    for name in ("clone", "contiguous"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda self, *given, real=real, **named: _noted(copied, self, real(self, *given, **named)),
        )
    checkpoint = Checkpoint(tmp_path / "run", 20)
    method = Bank(20_000)  # 10 MB
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    tracemalloc.start()
    try:
        checkpoint.save(State(step=3), method, optimizer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    state = method.rows.numel() * 4
    assert peak + sum(copied) < 0.1 * state
    assert (tmp_path / "run" / "run.safetensors").stat().st_size > state


def _noted(copied, source, result):
    """Note the bytes of a copy: a result that does not share the memory of its source."""
    if result.data_ptr() != source.data_ptr():
        copied.append(result.numel() * result.element_size())
    return result


def test_the_interval_grows_with_the_time_that_a_checkpoint_takes(tmp_path, monkeypatch, capsys):
    clock = Clock(monkeypatch, 9.7)
    checkpoint = Checkpoint(tmp_path / "run", 20)
    save(checkpoint)
    assert "a checkpoint takes 9.7 s" in capsys.readouterr().out
    clock.now += 480
    assert not checkpoint.due()
    clock.now += 6
    assert checkpoint.due()
