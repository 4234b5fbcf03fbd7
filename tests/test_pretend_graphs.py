"""Graphs of the pretended CUDA device: nothing is computed while one is captured, and all of it at every replay."""

import pytest
import torch
from pretend_device import DEVICE, pretend_cuda


@pytest.fixture
def device():
    with pretend_cuda() as pretence:
        yield pretence


def draws(seed, count):
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return [torch.rand(3, device=DEVICE, generator=generator) for _ in range(count)]


def test_a_replay_computes_from_the_present_values_and_draws_from_the_present_state(device):
    generator, graph = torch.Generator(DEVICE).manual_seed(0), torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    image, steps = torch.zeros(3, device=DEVICE), torch.zeros(1, device=DEVICE)
    with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
        noise = torch.rand(3, device=DEVICE, generator=generator)
        view = (image + noise).view(3, 1)
        first = view[0]
        steps.add_(1)
    assert view.isnan().all()
    assert first.isnan()
    assert steps.item() == 0
    for seed in (3, 4):
        image.fill_(seed)
        generator.manual_seed(seed)
        for expected in draws(seed, 2):
            graph.replay()
            assert torch.equal(view[:, 0], seed + expected)
            assert torch.equal(first, view[0])
    assert steps.item() == 4


def test_a_capture_does_not_draw(device):
    generator, graph = torch.Generator(DEVICE).manual_seed(3), torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        torch.rand(3, device=DEVICE, generator=generator)
    assert torch.equal(torch.rand(3, device=DEVICE, generator=generator), draws(3, 1)[0])


def test_a_pinned_copy_is_repeated(device):
    graph, host = torch.cuda.CUDAGraph(), torch.zeros(2).pin_memory()
    with torch.cuda.graph(graph):
        copied = host.to(DEVICE, non_blocking=True)
    host.fill_(5)
    graph.replay()
    assert copied.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x.sum().item()", "not permitted when stream is capturing"),
        ("x[x > 0]", "not permitted when stream is capturing"),
        ("torch.tensor([1.0], device=DEVICE)", "not permitted when stream is capturing"),
        ("torch.cuda.synchronize()", "not permitted when stream is capturing"),
        ("torch.rand(3, device=DEVICE, generator=torch.Generator(DEVICE))", "not registered"),
        ("generator.manual_seed(0)", "set_current_seed during CUDA graph capture"),
    ],
)
def test_a_capture_refuses_what_cuda_refuses(device, code, message):
    generator, graph = torch.Generator(DEVICE), torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    names = {"torch": torch, "x": torch.ones(3, device=DEVICE), "DEVICE": DEVICE, "generator": generator}
    with pytest.raises(RuntimeError, match=message), torch.cuda.graph(graph):
        eval(code, names)
    assert not torch.cuda.is_current_stream_capturing()


def test_a_graph_that_was_not_captured_cannot_be_replayed(device):
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        torch.cuda.CUDAGraph().replay()


def test_the_default_stream_cannot_be_captured(device):
    graph = torch.cuda.CUDAGraph()
    with (
        pytest.raises(RuntimeError, match="non-default stream"),
        torch.cuda.graph(graph, stream=torch.cuda.default_stream()),
    ):
        pass


def test_streams_and_events(device):
    side, event = torch.cuda.Stream(), torch.cuda.Event()
    default = torch.cuda.current_stream()
    side.wait_stream(default)
    with torch.cuda.stream(side):
        assert torch.cuda.current_stream() is side
        event.record()
    default.wait_event(event)
    assert torch.cuda.current_stream() is default
    assert event.query()
    assert device.waits == {}


RACES = {
    "side reads what the default stream wrote": """
x = torch.ones(3, device=DEVICE)
WAIT: side.wait_stream(default)
with torch.cuda.stream(side): y = x + 1
""",
    "the default stream reads what side wrote": """
side.wait_stream(default)
with torch.cuda.stream(side): y = torch.ones(3, device=DEVICE)
WAIT: default.wait_stream(side)
y + 1
""",
    "an event that was recorded too early": """
x = torch.ones(3, device=DEVICE)
side.wait_stream(default)
EARLY: event.record(side)
with torch.cuda.stream(side): x.add_(1)
WAIT: event.record(side)
default.wait_event(event)
x + 1
""",
    "memory that is written while another stream reads it": """
x = torch.ones(3, device=DEVICE)
side.wait_stream(default)
with torch.cuda.stream(side): y = x + 1
WAIT: default.wait_stream(side)
x.zero_()
""",
    "a replay over views that are still in use": """
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph, stream=side): view = torch.zeros(3, device=DEVICE)
with torch.cuda.stream(side): graph.replay()
default.wait_stream(side)
view + 1
WAIT: side.wait_stream(default)
with torch.cuda.stream(side): graph.replay()
""",
    "the host has waited for another event": """
x = torch.ones(3, device=DEVICE)
event.record()
x.add_(1)
WAIT: event.record()
event.synchronize()
with torch.cuda.stream(side): y = x + 1
""",
}


@pytest.mark.parametrize("code", RACES.values(), ids=RACES)
def test_streams_that_do_not_wait_for_each_other_raise(device, code):
    names = {"torch": torch, "DEVICE": DEVICE, "default": torch.cuda.current_stream()}
    names |= {"side": torch.cuda.Stream(), "event": torch.cuda.Event()}
    exec(code.replace("WAIT: ", "").replace("EARLY: ", ""), names)
    without = "\n".join(line for line in code.splitlines() if not line.startswith("WAIT: "))
    names |= {"side": torch.cuda.Stream(), "event": torch.cuda.Event()}
    with pytest.raises(RuntimeError, match="does not wait for what another one does"):
        exec(without.replace("EARLY: ", ""), names)
