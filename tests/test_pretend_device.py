"""The pretended CUDA device raises what CUDA raises, and counts what a host waits for."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pretend_device import DEVICE, pretend_cuda
from torch import nn
from torch.nn import functional as F


@pytest.fixture
def device():
    with pretend_cuda() as pretence:
        yield pretence


def asked(device, code):
    """What a line of code, on a float vector `x` of four, asks of the device."""
    x = torch.tensor([0.5, -1.0, 2.0, 3.0], device=DEVICE)
    pinned = torch.ones(4).pin_memory()
    device.clear()
    # A line of the package, as far as the pretence is concerned.
    line = compile(code, f"{device.folder}/line.py", "eval")
    eval(line, {"torch": torch, "F": F, "x": x, "pinned": pinned, "DEVICE": DEVICE})
    return sum(device.waits.values()), sum(device.copies.values())


@pytest.mark.parametrize(
    "code",
    [
        *("x.sum().item()", "float(x[0])", "bool((x > 0).any())", "x.tolist()", "x.cpu()", "x.to('cpu')"),
        *("x[x > 0]", "x.nonzero()", "torch.where(x > 0)", "x.unique()", "x.relu().long().bincount(minlength=9)"),
        *("torch.equal(x, x)", "x[x.relu().long()[0]]", "x.repeat_interleave(x.relu().long())", "f'{x[0]:.2f}'"),
        *("torch.ones(4).copy_(x)", "torch.ones(4).copy_(x, non_blocking=True)", "x.masked_select(x > 0)"),
        *("torch.cuda.synchronize()", "torch.cuda.Event().synchronize()", "torch.cuda.current_stream().synchronize()"),
    ],
)
def test_a_read_is_a_wait(device, code):
    assert asked(device, code) == (1, 0)


@pytest.mark.parametrize(
    "code",
    [
        *("torch.ones(4).to(DEVICE)", "torch.ones(4).to(DEVICE, non_blocking=True)", "pinned.to(DEVICE)"),
        *("torch.tensor([1.0], device=DEVICE)", "torch.as_tensor([1.0], device=DEVICE)", "x.new_tensor([1.0])"),
        *("x.copy_(torch.ones(4), non_blocking=True)", "x[torch.tensor([0, 1])]"),
    ],
)
def test_a_copy_to_the_device_blocks(device, code):
    assert asked(device, code) == (0, 1)


@pytest.mark.parametrize(
    "code",
    [
        *("x + 1", "x + torch.tensor(1.0)", "x.masked_fill(x > 0, 0.0)", "x.__setitem__(x > 0, 0.0)"),
        *("torch.where(x > 0, x, 1.0)", "F.one_hot(x.relu().long(), 9)", "x[x.relu().long()]", "x[1:]"),
        *("pinned.to(DEVICE, non_blocking=True)", "x.copy_(pinned[:4], non_blocking=True)", "x.sort()"),
        *("torch.ones(4).pin_memory().copy_(x, non_blocking=True)", "torch.full((4,), 2.0, device=DEVICE)"),
        *("x.copy_(torch.empty(4, pin_memory=True), non_blocking=True)", "x.record_stream(torch.cuda.Stream())"),
        *("x.repeat_interleave(torch.ones_like(x).long(), output_size=4)", "x.to(DEVICE)", "x.detach()"),
    ],
)
def test_this_neither_waits_nor_blocks(device, code):
    assert asked(device, code) == (0, 0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x + torch.ones(4)", "on the same device"),
        ("torch.cat([x, torch.ones(4)])", "on the same device"),
        ("torch.zeros(()).add_(x[0])", "on the same device"),
        ("torch.ones(4)[x.long()]", "on the same device"),
        ("x.index_select(0, torch.tensor([0]))", "on the same device"),
        ("x.__setitem__(torch.tensor([0, 1]).to(DEVICE), torch.ones(2))", "on the same device"),
        ("torch.rand(4, device=DEVICE, generator=torch.Generator())", "Expected a 'cuda' device type for generator"),
        ("torch.randperm(4, generator=torch.Generator(DEVICE))", "Expected a 'cpu' device type for generator"),
        ("x.numpy()", "numpy"),
        ("x.pin_memory()", "cannot pin"),
    ],
)
def test_two_devices_raise(device, code, message):
    with pytest.raises(RuntimeError, match=message):
        asked(device, code)


def test_a_line_is_named(device):
    asked(device, "x[0].item()")
    assert dict(device.waits) == {"line.py:1   [_local_scalar_dense]": 1}


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_a_network_learns_what_it_learns_on_the_cpu(optimizer):
    def learn(device):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LayerNorm(144), nn.Linear(144, 2)
        network = copy.deepcopy(nn.Sequential(*layers).to(device)).to(memory_format=torch.channels_last)
        chosen = optimizer(network.parameters(), lr=0.1, fused=True)
        generator = torch.Generator(device).manual_seed(1)
        for _ in range(3):
            images = torch.rand(5, 3, 8, 8, device=device, generator=generator)
            chosen.zero_grad()
            network(images).square().mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            chosen.step()
        assert {weight.device for weight in network.parameters()} == {device}
        return {name: value.cpu() for name, value in network.state_dict().items()}

    expected = learn(torch.device("cpu"))
    with pretend_cuda() as device:
        found = learn(DEVICE)
        assert not device.waits.keys() - {"elsewhere  [copy to the host]"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_autocast_is_that_of_cuda(device):
    layer = nn.Linear(3, 2).to(DEVICE)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        output = layer(torch.ones(4, 3, device=DEVICE))
        assert output.dtype == torch.bfloat16
        assert output.softmax(dim=1).dtype == torch.float32
    assert layer(torch.ones(4, 3, device=DEVICE)).dtype == torch.float32


def test_threads_use_the_device(device):
    def copy_of(host):
        with torch.cuda.stream(torch.cuda.Stream()):
            return host.to(DEVICE, non_blocking=True), torch.empty(3, pin_memory=True), torch.ones(1, device=DEVICE)

    with ThreadPoolExecutor(1) as pool:
        copied, pinned, made = pool.submit(copy_of, torch.ones(3).pin_memory()).result()
        with pytest.raises(RuntimeError, match="does not wait"):
            copied + 1
    assert (copied.device, made.device, pinned.is_pinned()) == (DEVICE, DEVICE, True)
    assert torch.cuda.current_stream() is torch.cuda.default_stream()
    assert device.copies == {}


def test_nothing_is_left_of_it():
    before = torch.Generator, torch.Tensor.backward, torch.cuda.Stream, torch.backends.cudnn.benchmark
    with pretend_cuda():
        torch.backends.cudnn.benchmark = True
        assert torch.cuda.is_available()
    assert before == (torch.Generator, torch.Tensor.backward, torch.cuda.Stream, torch.backends.cudnn.benchmark)
    assert not torch.cuda.is_available()
    assert type(torch.Generator()) is torch.Generator
