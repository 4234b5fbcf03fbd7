"""The run-time choices of device and precision; there is no GPU here, so they are looked at and not used."""

import warnings

import pytest
import torch

from sslpipe.data import device, device_probe
from sslpipe.data.device_probe import OPERATIONS, Probe, probe
from sslpipe.io.errors import UserError

CUDA = torch.device("cuda")


@pytest.fixture
def ask(monkeypatch):
    """Set the precision that the environment asks for, or none."""

    def put(name):
        if name is None:
            monkeypatch.delenv(device.PRECISION, raising=False)
        else:
            monkeypatch.setenv(device.PRECISION, name)

    return put


@pytest.mark.parametrize(("name", "enabled"), [(None, True), ("", True), ("bfloat16", True), ("float32", False)])
def test_networks_run_in_bfloat16_on_cuda_unless_float32_is_asked_for(ask, monkeypatch, name, enabled):
    ask(name)
    seen = {}
    monkeypatch.setattr(torch, "autocast", lambda kind, **given: seen.update({kind: given}))
    device.autocast(CUDA)
    device.autocast(torch.device("cpu"))
    assert seen == {
        "cuda": {"dtype": torch.bfloat16, "enabled": enabled},
        "cpu": {"dtype": torch.bfloat16, "enabled": False},
    }


def test_convolutions_in_float32_are_not_rounded_to_tf32(ask, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda given: "NVIDIA H200")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        ask("float32")
        assert device.choose_device("cuda:0") == torch.device("cuda:0")
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


def test_an_unknown_precision_is_one_line(ask):
    ask("fp16")
    with pytest.raises(UserError, match=r"^SSLPIPE_PRECISION: 'fp16' found, expected bfloat16 or float32$"):
        device.choose_device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """A machine with the given devices, and operations that its Apple GPU lacks or leaves to the CPU."""

    def put(*, cuda=False, mps=False, missing=(), on_cpu=()):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda given: "NVIDIA H200")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(device, "probe", lambda given: Probe(missing, on_cpu))
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        monkeypatch.delenv(device.PRECISION, raising=False)

    return put


@pytest.mark.parametrize(
    ("found", "kind", "text"),
    [
        ({}, "cpu", "cpu, 2 threads"),
        ({"cuda": True}, "cuda", "cuda:0 (NVIDIA H200), bfloat16"),
        ({"cuda": True, "mps": True}, "cuda", "cuda:0 (NVIDIA H200), bfloat16"),
        ({"mps": True}, "mps", "mps, float32"),
        ({"mps": True, "on_cpu": ("sorting", "views")}, "mps", "mps, float32 (sorting, views on the CPU)"),
        (
            {"mps": True, "missing": ("losses",), "on_cpu": ("views",)},
            "cpu",
            "cpu, 2 threads (mps lacks losses; --device mps takes it all the same)",
        ),
    ],
)
def test_auto_takes_the_fastest_device_that_has_the_operations(machine, found, kind, text):
    machine(**found)
    with warnings.catch_warnings():
        chosen = device.find_device("auto")
    assert (chosen.device.type, chosen.text) == (kind, text)


def test_an_apple_gpu_is_taken_if_it_is_asked_for(machine):
    machine(mps=True, missing=("losses",), on_cpu=("views",))
    with warnings.catch_warnings():
        chosen = device.find_device("mps")
        assert chosen.device.type == "mps"
        assert chosen.text == "mps, float32 (lacks losses; views on the CPU)"
        warnings.simplefilter("default", append=True)
        warnings.warn(f"The operator 'aten::sort' will {device_probe.FALLBACK}. It may be slow", stacklevel=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mps", r"^--device mps: no Apple GPU that torch \S+ can use found$"),
        ("xpu", "^--device xpu: not supported, expected auto, cpu, cuda, cuda:N or mps$"),
        ("gpu", "^--device gpu: unknown device, expected auto, cpu, cuda, cuda:N or mps$"),
        ("cuda:3", "^--device cuda:3: 0 CUDA devices found$"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(machine, name, message):
    machine()
    with pytest.raises(UserError, match=message):
        device.find_device(name)


@pytest.fixture
def one_of_three(machine, monkeypatch):
    """Process 1 of 3 that train together, on a machine with CUDA devices."""
    chosen = []
    machine(cuda=True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda given: chosen.append(given.index))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    for name, value in {"WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    return chosen


def test_each_process_has_the_device_of_its_number(one_of_three, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    device._print_once.cache_clear()
    assert device.choose_device("auto") == torch.device("cuda:1")
    assert one_of_three == [1]
    assert capsys.readouterr().out == "device: 3 processes, the first with cuda:0 (NVIDIA H200), bfloat16\n"
    assert device.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "^--devices 3: 1 CUDA devices found$"),
        ("cuda:0", "^--device cuda:0: found with --devices 3, expected cuda, whose first devices are used$"),
    ],
)
def test_devices_that_are_not_there_are_one_line(one_of_three, name, message):
    with pytest.raises(UserError, match=message):
        device.choose_device(name)


def test_the_device_is_printed_once(machine, capsys):
    machine()
    device._print_once.cache_clear()
    for _ in range(2):
        assert device.choose_device("auto") == torch.device("cpu")
    assert capsys.readouterr().out == "device: cpu, 2 threads\n"


def test_the_cpu_has_all_operations_of_the_probe():
    before = torch.get_rng_state()
    assert probe(torch.device("cpu")) == Probe()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_probe_tells_what_fails_from_what_the_cpu_computes(monkeypatch):
    def lacking(given):
        raise NotImplementedError("The operator 'aten::foo' is not currently implemented for the MPS device")

    def slow(given):
        warnings.warn(f"The operator 'aten::bar' will {device_probe.FALLBACK}", stacklevel=1)

    def double(given):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(device_probe, "OPERATIONS", {"a": lacking, "b": slow, "c": OPERATIONS["losses"], "d": double})
    assert probe(torch.device("cpu")) == Probe(missing=("a", "d"), on_cpu=("b",))


def test_an_apple_gpu_has_no_float64_and_no_autocast():
    mps = torch.device("mps")
    assert (device.widest_float(mps), device.widest_float(CUDA)) == (torch.float32, torch.float64)
    assert (device.image_format(mps), device.image_format(CUDA)) == (torch.contiguous_format, torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not device.autocast(mps)._enabled
