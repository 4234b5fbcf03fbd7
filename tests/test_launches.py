"""What the benchmark of launches counts, and the arithmetic of its model; nothing is measured."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import fake_gpu, launches, steps
from benchmarks.fake_gpu import DEVICE, Launch, on_device, recorded
from benchmarks.launches import H100, Row
from sslpipe.data.images import Images
from sslpipe.nets.network import BackboneSettings
from sslpipe.tools import recipes
from sslpipe.views.policies import Views


def names(found):
    return [launch.name for launch in found]


def test_a_tiny_step_is_counted_exactly():
    with recorded() as found:
        x, weight = torch.ones(8, 4, device=DEVICE), nn.Parameter(torch.ones(4, 2, device=DEVICE))
        found.clear()
        (x @ weight).view(-1).relu().sum().backward()
    assert names(found) == ["mm", "relu", "sum", "ones_like", "threshold_backward", "mm"]
    assert [launch.flops for launch in found] == [128, 0, 0, 0, 0, 128]
    assert found[0].bytes == 4 * (8 * 4 + 4 * 2 + 8 * 2)
    assert {launch.part for launch in found[3:]} == {"backward"}
    assert weight.grad.shape == (4, 2)
    assert weight.grad.device == DEVICE


def test_mixed_precision_and_convolutions_run_as_on_a_gpu():
    with recorded() as found:
        network = nn.Conv2d(3, 4, 3)
        for name, weight in network.named_parameters():
            setattr(network, name, nn.Parameter(torch.empty(weight.shape, device=DEVICE)))
        x = torch.empty(2, 3, 8, 8, device=DEVICE)
        found.clear()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            network(x).sum().backward()
    product = next(launch for launch in found if launch.name == "convolution")
    assert product.dtype == torch.bfloat16
    assert product.flops == 2 * (2 * 4 * 6 * 6) * (3 * 3 * 3)
    # Of the weight alone, since the images need no gradient.
    assert next(launch for launch in found if launch.name == "convolution_backward").flops == product.flops


class Names(TorchDispatchMode):
    """The names of operations that compute something, on any device."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[1].split(".")[0]
        self.found[name] += name not in fake_gpu.WITHOUT_KERNEL
        return func(*args, **(kwargs or {}))


def loss_of(device):
    """A loss with two uses of a weight, a broadcast sum, a batch norm and a part without gradient."""
    weights = [nn.Parameter(torch.ones(shape, device=device)) for shape in ((4, 4), (4,), (4,), (4,))]
    square, bias, scale, shift = weights
    x = torch.ones(6, 4, device=device) @ square
    x = nn.functional.batch_norm(x + bias, None, None, scale, shift, training=True)
    return ((x @ square).softmax(dim=1) * x.detach()).mean(), weights


def test_the_backward_asks_for_what_the_autograd_engine_asks():
    loss, weights = loss_of("cpu")
    with Names() as real:
        loss.backward()
    with recorded() as found:
        loss, moved = loss_of(DEVICE)
        found.clear()
        loss.backward()
        assert [weight.grad.shape for weight in moved] == [weight.shape for weight in weights]
    assert Counter(names(found)) == +real.found


def test_a_fused_optimiser_counts_by_the_list():
    with recorded() as found:
        weights = [nn.Parameter(torch.ones(each + 1, device=DEVICE)) for each in range(97)]
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer = torch.optim.SGD(weights, lr=0.1, fused=True)
        found.clear()
        optimizer.step()
    # Two lists, weights and gradients, of which a kernel takes 64 tensors.
    assert [(launch.name, launch.kernels, launch.part) for launch in found] == [("_fused_sgd_", 2, "optimiser")]


def test_lists_of_different_shapes_are_a_loop():
    with recorded() as found:
        three = [torch.ones(2, 3, device=DEVICE) for _ in range(3)]
        found.clear()
        torch._foreach_mul_(three, [x.clone() for x in three])
        torch._foreach_mul_(three, [torch.ones((), device=DEVICE) for _ in three])
        torch._foreach_mul_(three, [torch.ones(3, 2, device=DEVICE).T for _ in three])
        torch._foreach_mul_(three, 2.0)
    lists = [launch.kernels for launch in found if launch.name.startswith("_foreach")]
    assert lists == [1, 3, 3, 1]


def test_what_is_read_from_the_device_is_a_wait():
    with recorded() as found:
        x, cpu = torch.ones(5, device=DEVICE), torch.arange(5)
        found.clear()
        assert x.sum().item() == 0
        assert x.cpu().numpy().tolist() == [0] * 5
        assert x[x > 0].shape == (5,)
        cpu.pin_memory().to(DEVICE, non_blocking=True)
        cpu.to(DEVICE)
        x.double()
    waits = [(launch.name, launch.waits) for launch in found if launch.name not in ("sum", "gt")]
    expected = [("_local_scalar_dense", True), ("_to_copy", True), ("index", True)]
    assert waits == [*expected, ("_to_copy", False), ("_to_copy", True), ("_to_copy", False)]


def test_the_images_of_a_batch_are_read_and_not_all_images():
    with recorded() as found:
        store, index = torch.ones(1000, 8, device=DEVICE), torch.arange(10, device=DEVICE)
        found.clear()
        store[index]
        store[index] = torch.ones(10, 8, device=DEVICE)
    assert {launch.bytes for launch in found if launch.name.startswith("index")} == {
        10 * 8 + 2 * 4 * 80,
        10 * 8 + 3 * 4 * 80,
    }


def small_step(method, place):
    """Launches of a step of a pretext task, and of its views alone."""
    blank = Images(np.zeros((40, 3, 16, 16), np.uint8), torch.device("cpu"))
    block = steps.published()["pretrain", method]
    trainer = steps.trainer("pretrain", method, block, steps.Setup(BackboneSettings(name="tiny_resnet"), blank, 10))
    with recorded() as found:
        on_device(trainer)
        trainer.step(place)
        found.clear()
        trainer.step(place + 1)
        step = list(found)
        views = next(value for value in vars(trainer.method).values() if isinstance(value, Views))
        image = torch.empty(20, 3, 16, 16, dtype=torch.uint8, device=DEVICE)
        found.clear()
        views(image, fake_gpu.DeviceGenerator())
        return step, list(found)


def test_the_views_of_a_step_are_found():
    step, alone = small_step("simclr", 0)
    views = [launch for launch in step if launch.part == "views"]
    assert len(alone) > 100
    assert 0 <= len(views) - len(alone) <= 3  # later also the concatenation of the images
    assert {launch.part for launch in alone} == {"views"}
    count = Counter(launch.part for launch in step)
    assert count["forward"] > 30 < count["backward"]
    assert 1 <= count["data"] <= 2  # the images, and the copy of their indices
    assert 0 < count["optimiser"] <= 3
    assert not any(launch.waits for launch in step)


@pytest.mark.parametrize(
    ("path", "function", "part"),
    [
        ("methods/pretrain/simclr.py", "draw_views", "views"),
        ("views/color.py", "jitter", "views"),
        ("methods/semisup/simmatch.py", "after_step", "averages"),
        ("nets/averaged.py", "update", "averages"),
        ("nets/averaged.py", "forward", "forward"),
        ("data/batches.py", "at", "data"),
        ("data/world.py", "gather", ""),
        ("engine/optimizers.py", "step", "optimiser"),
        ("objectives/simclr.py", "nt_xent", ""),
    ],
)
def test_a_part_is_known_by_where_it_is_called_from(path, function, part):
    assert fake_gpu._part(path, function) == part


GPU = H100(
    launch_us=4,
    kernel_us=2,
    graph_kernel_us=1,
    graph_us=10,
    graph_copies=2,
    bandwidth=1e12,
    bfloat16=1e14,
    float32=1e13,
)
SMALL = Launch("loss", "add", "", kernels=1, bytes=0, flops=0, dtype=torch.float32)
LARGE = SMALL._replace(flops=1e9)  # 100 µs


def test_the_time_of_a_kernel_is_its_largest_bound():
    assert GPU.alone(SMALL, 2) == pytest.approx(2e-6)
    assert GPU.alone(SMALL._replace(kernels=3), 2) == pytest.approx(6e-6)
    assert GPU.alone(SMALL._replace(bytes=5e6), 2) == pytest.approx(5e-6)
    assert GPU.alone(LARGE, 2) == pytest.approx(100e-6)
    assert GPU.alone(LARGE._replace(dtype=torch.bfloat16), 2) == pytest.approx(10e-6)


def test_a_step_takes_the_longer_of_cpu_and_gpu():
    assert GPU.one_by_one([SMALL] * 10) == pytest.approx(40e-6)
    assert GPU.one_by_one([SMALL, LARGE, SMALL]) == pytest.approx(104e-6)
    assert replace(GPU, launch_us=50).one_by_one([SMALL, LARGE, SMALL]) == pytest.approx(150e-6)


def test_a_wait_costs_the_lead_of_the_cpu():
    wait = SMALL._replace(waits=True)
    # The CPU goes on when the wait's kernel is done: launches of 4 and 4 µs, then 100 µs, then 2 µs.
    assert GPU.one_by_one([SMALL, LARGE, wait]) == pytest.approx(110e-6)
    assert GPU.one_by_one([SMALL, LARGE, SMALL]) == pytest.approx(104e-6)


def test_views_ahead_cost_their_bytes_and_one_launch():
    view = SMALL._replace(part="views", bytes=0.5e6)  # 0.5 µs of bandwidth, 1 µs in a graph
    # The CPU: 5 launches, the graph and two copies. The GPU: 100 + 4 · 2 + 10 · 0.5.
    assert GPU.views_ahead([view] * 10 + [SMALL] * 5) == pytest.approx((5 * 4 + 10 + 2 * 4) * 1e-6)
    assert GPU.views_ahead([view] * 10 + [LARGE] + [SMALL] * 4) == pytest.approx(113e-6)
    # The views by themselves.
    assert GPU.views_ahead([view] * 500 + [LARGE]) == pytest.approx(max(500e-6, 100e-6 + 250e-6))


def test_the_clustering_of_the_alternation_waits_for_its_assignments():
    row = next(row for row in launches.SMALL if row.phase == "clustering")
    found = launches.step(row, 32)
    # Targets are assigned on the CPU.
    read = [launch.line for launch in found.launches if launch.waits and "alternation.py" in launch.line]
    assert any(".cpu()" in line for line in read)
    assert found.network == "wrn_28_2"


def test_the_command_prints_other_assumptions(monkeypatch, tmp_path, capsys):
    path = tmp_path / "launches.json"
    given = ["rotnet", "--launch-us", "4", "100", "--lines", "2", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["launches", *given])
    launches.main()
    counted, modelled, waits, lines = json.loads(path.read_text())
    assert counted["rows"][0][0] == "pretrain.rotnet"
    assert modelled["columns"][3:] == [
        "one by one, 4 µs",
        "views ahead, 4 µs",
        "one by one, 100 µs",
        "views ahead, 100 µs",
    ]
    total = dict(zip(counted["columns"], counted["rows"][0], strict=True))
    assert total["launches"] == sum(total[part] for part in fake_gpu.PARTS)
    # At 100 µs the launches alone decide, those of the bare pass too.
    assert modelled["rows"][0][5] == pytest.approx(total["launches"] / total["bare"])
    assert waits["rows"] == []
    assert len(lines["rows"]) == 2
    assert "## Modelled time" in capsys.readouterr().out


def test_an_unknown_method_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["launches", "nonsense"])
    with pytest.raises(SystemExit, match="2"):
        launches.main()
    assert "unknown method 'nonsense', expected some of simclr" in capsys.readouterr().err


def test_every_recipe_that_is_named_has_the_method():
    for row in (*launches.SMALL, *launches.LARGE):
        assert isinstance(row, Row)
        if row.recipe:
            tree = steps.yaml.safe_load(recipes.text(row.recipe))
            assert row.method in tree[row.stage]


def test_a_module_moves_as_torch_moves_it():
    module = nn.BatchNorm1d(3)
    kept = module.kept = torch.ones(2)
    with recorded():
        fake_gpu._moved(module, {})
        assert {each.device for each in (*module.parameters(), *module.buffers())} == {DEVICE}
    assert module.kept is kept
    assert module.weight.requires_grad


@pytest.mark.parametrize(("can_be_ahead", "expected"), [(False, 3.0), (True, 0.3)])
def test_views_that_depend_on_the_step_before_are_not_ahead(monkeypatch, can_be_ahead, expected):
    views, bare = [SMALL._replace(part="views")] * 30, [SMALL] * 10
    monkeypatch.setattr(launches, "step", lambda row, side: launches.Step("", 1, views, bare, can_be_ahead))
    gpu = replace(GPU, kernel_us=10, graph_kernel_us=1)
    row = launches.modelled([Row("", "any")], 32, gpu, [4.0]).rows[0]
    # One by one the GPU takes 300 µs over 100. Ahead are 30 kernels of 1 µs in the graph, or 18 µs of the CPU.
    assert row[3:] == [pytest.approx(3.0), pytest.approx(expected)]
