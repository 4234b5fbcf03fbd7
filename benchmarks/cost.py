"""A cost model: what recipes take in images, views, FLOPs and bytes, and the time predicted from that.

The method of each training stage takes one step on a few images, with a stand-in for the backbone's arithmetic; what
goes through views and networks is seen and multiplied. FLOPs are counted on torch's meta device: those of convolutions,
matrix products and attention, a multiplication and an addition being two. Only the last table has measurements.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from math import gcd
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cost_beside, cost_terms
from benchmarks.measure import Spread, interleave
from benchmarks.report import Options, Table
from benchmarks.steps import Pass, Setup, bare, images, published, settings_of, trainer, watched
from sslpipe.data.images import Images
from sslpipe.io.params import find_module
from sslpipe.io.settings import parse
from sslpipe.nets.layers import Backbone
from sslpipe.nets.network import BackboneSettings
from sslpipe.tools import recipes
from sslpipe.views.policies import Views


@dataclass(frozen=True)
class A100:
    """What every predicted time rests on: assumptions, none of them measured here."""

    small: float = 23_800
    """ResNet-18 at 32 px, images a second forward and backward: airbench's README, 200 epochs of CIFAR-10 in 7 min."""
    large: float = 2_900
    """ResNet-50, 3/4 of the images at 160 px, 1/4 at 192: ffcv-imagenet's README, 16 epochs in 14.9 min on eight."""
    search: float = 15e12
    """FLOP/s of neighbour search, in float32 without TF32: own assumption, three quarters of the peak of 19.5e12."""
    eight: float = 0.7
    """Of eight times one GPU's speed: lightly's SimCLR on CIFAR-10, 208 min on one, 73 to 77 on four; for eight too."""

    def flops(self, side: int) -> float:
        """FLOP/s of any network on stored images of a side: that of one of the two runs."""
        if side < 128:
            return self.small * backbone("resnet18", "cifar", 32).both
        return self.large * sum(p * backbone("resnet50", "imagenet", at).both for p, at in ((0.75, 160), (0.25, 192)))


IMAGES = {"cifar10": (50_000, 10_000), "stl10": (5_000, 8_000), "imagenet": (1_281_167, 50_000)}
"""Source → images to train and to test; of STL-10 those with a label, which the recipes here take alone."""
LISTED = {"imagenet100.txt": (126_689, 5_000)}
"""The same for a list of ImageNet's classes; about as many."""
RECIPES = {
    "CIFAR-10": ("scan-cifar10-code", "fixmatch-cifar10-40", "simmatch-cifar10-40"),
    "STL-10": ("scan-stl10",),
    "ImageNet-100": ("scan-imagenet100",),
    "ImageNet-1k": ("scan-imagenet", "simmatch-imagenet-1pct", "suave-imagenet-1pct", "daino-imagenet-1pct"),
}
SEEN = 1031
"""Images of the small step. A prime: a length that is equal to it is that of something kept for each image."""
Passes = dict[tuple[int, bool], int]  # (side in pixels, with gradient) → images that go through a backbone
Rows = list[list[Any]]


class Counted(NamedTuple):
    """One image in a network: FLOPs, bytes that the forward keeps for the backward (floats as bfloat16), outputs.

    once: bytes that are kept beside them, whatever the number of images, such as normalised prototypes.
    """

    forward: float
    both: float
    kept: float
    once: float
    outputs: int


def count(network: nn.Module, side: int) -> Counted:
    """Of one colour image of that side. The backward has no gradient of the image itself, as in training."""
    two, four = (_count(network, side, images) for images in (2, 4))
    kept = (four.kept - two.kept) / 2
    return Counted(two.forward / 2, two.both / 2, kept, two.kept - 2 * kept, two.outputs)


def _count(network: nn.Module, side: int, images: int) -> Counted:
    """Of so many images in all."""
    network = copy.deepcopy(network).to("meta").train()
    # By storage, since several layers keep the same tensor; held, so that no other one takes its place.
    kept: dict[int, tuple[Any, float]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage, width = tensor.untyped_storage(), 2 if tensor.is_floating_point() else tensor.element_size()
        kept[storage._cdata] = (storage, storage.nbytes() / tensor.element_size() * width)
        return tensor

    no_autocast = patch.object(torch, "autocast", lambda *_, **__: nullcontext())  # meta knows none
    with no_autocast, FlopCounterMode(display=False) as forward, saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(torch.zeros(images, 3, side, side, device="meta"))
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    own = {each.untyped_storage()._cdata for each in (*network.parameters(), *network.buffers())}
    flops, more = forward.get_total_flops(), backward.get_total_flops()
    size = sum(size for key, (_, size) in kept.items() if key not in own)
    return Counted(flops, flops + more, size, 0.0, output.shape[-1])


@cache
def backbone(name: Any, stem: Any, side: int, architecture: str | None = None) -> Counted:
    """Of a backbone alone."""
    return count(BackboneSettings(name=name, stem=stem, architecture=architecture).build(3), side)


def joined(passes: list[Pass], times: int = 1) -> Passes:
    sides = {(each.shape[-1], each.gradient) for each in passes}
    return {key: times * sum(p.shape[0] for p in passes if (p.shape[-1], p.gradient) == key) for key in sorted(sides)}


def flops_of(passes: Passes, each: dict[int, Counted]) -> float:
    """Of passes through a network. each: side → what one image takes."""
    return sum(n * (each[side].both if gradient else each[side].forward) for (side, gradient), n in passes.items())


def stand_in(real: Backbone, images: Tensor) -> Tensor:
    """In place of a backbone's forward: features of its shape, and a gradient for each of its weights."""
    return sum(weight.mean() for weight in real.parameters()).expand(len(images), real.dimension)


class Stage(NamedTuple):
    """What a training stage takes: its number of steps, FLOPs and numbers of a step, bytes."""

    steps: int
    flops: float
    numbers: list[int | str]
    """Images, views, what goes through backbones with a gradient, and without."""
    bytes: list[float]
    """Weights, the checkpoint, and in it moments and all else that is no weight; what a step keeps for its backward."""


def cost(stage: str, method: str, block: dict[str, Any], network: BackboneSettings, side: int, n: int) -> Stage:
    """Of a method with the settings `block`, on n images of a side."""
    settings = parse(find_module(f"sslpipe.methods.{stage}", method, where=stage).Settings, block, where=stage)
    labelled, batch = getattr(settings, "labelled_batch", 0), settings.fit.batch
    times = max(gcd(batch, labelled) // 2, 1)  # two images are the fewest that batch norms take
    small = {**block, "labelled_batch": labelled // times} if labelled else block
    blank = Images(np.zeros((SEEN, 3, side, side), np.uint8), torch.device("cpu"))
    trained = trainer(stage, method, small, Setup(network, blank, batch // times))
    whole = copy.deepcopy(trained.method.network)
    for module in trained.method.modules():
        if isinstance(module, Backbone):
            module.forward = partial(stand_in, module)  # type: ignore[method-assign]
    counting = patch.object(Views, "__call__", autospec=True, side_effect=Views.__call__)
    with watched(trained.method.network) as found, counting as views:
        trained.step(trained.total // 2)  # not the first one, in which some layers are frozen
    drawn, passes = sum(len(call.args[1]) for call in views.call_args_list) * times, joined(found, times)
    each = {at: count(whole, at) for at in {at for at, _ in passes}}
    weights = sum(x.nbytes for x in whole.state_dict().values())
    state = sum(x.nbytes * (n / SEEN if SEEN in x.shape else 1) for x in trained.method.state_dict().values())
    moments = sum(x.nbytes for values in trained.optimizer.state.values() for x in values.values())
    kept = sum(k * each[at].kept + each[at].once for (at, gradient), k in passes.items() if gradient)
    sides = [[f"{k} × {at} px" for (at, has), k in passes.items() if has is gradient] for gradient in (True, False)]
    numbers = [batch + labelled, drawn, *(" + ".join(each) or "-" for each in sides)]
    total = settings.fit.steps or settings.fit.epochs * (n // batch)
    return Stage(total, flops_of(passes, each), numbers, [weights, state + moments, moments, state - weights, kept])


def duration(seconds: float) -> str:
    units = ((86400, "days"), (3600, "h"), (60, "min"))
    length, unit = next((each for each in units if seconds >= 2 * each[0]), (1, "s"))
    return f"{short(seconds / length, 2)} {unit}"


def short(value: float, digits: int = 3) -> str:
    """To so many digits, small values to 0.0001."""
    return f"{float(f'{round(value, 4):.{digits}g}'):g}"


def splits_of(settings: dict[str, Any]) -> tuple[int, int, int]:
    """Training, held-out and test images of a recipe."""
    prepare = settings["prepare"]
    train, test = LISTED.get(prepare[prepare["source"]].get("classes")) or IMAGES[prepare["source"]]
    if settings["protocol"] == "full":
        train, test = train + test, 0
    held_out = round(prepare["held_out"] * train)
    return train - held_out, held_out, test


def rows(name: str) -> tuple[Rows, Rows]:
    """A recipe's rows of the tables of predicted times and of bytes, in GB."""
    settings, times = yaml.safe_load(recipes.text(name)), Rows()
    network, stored = parse(BackboneSettings, settings["network"], where="network"), settings["prepare"]["size"]
    n, m, test = splits_of(settings)
    train = n + m
    side = network.side or stored
    alone = backbone(network.name, network.stem, side, network.architecture)
    rate = A100().flops(side)
    sizes = [[name, "prepare: images", short((train + test) * 3 * stored**2 / 1e9), *"----"]]

    def add(what: str, flops: float, *cells: Any, rate: float = rate) -> None:
        one, eight = duration(flops / rate), duration(flops / rate / 8 / A100.eight)
        times.append([name, what, *cells, short(flops / 1e15), one, eight])

    without_labels = ("pretrain", "cluster", "self_label")
    runs = [(stage, settings[stage]["method"]) for stage in without_labels if stage in settings]
    runs += [("semisup", method) for method in settings.get("semisup", {}).get("methods", ())]
    for stage, method in runs:
        if method == "frozen":
            continue  # which trains nothing
        one = cost(stage, method, settings_of(settings, stage, method), network, side, n)
        what = f"{stage.replace('_', '-')}: {method}"
        add(what, one.steps * one.flops, one.steps, *one.numbers)
        sizes.append([name, what, *(short(each / 1e9) for each in one.bytes)])
        if stage == "pretrain" and "mine_neighbors" in settings:
            add("features", (n + m + test) * alone.forward, *"----", f"{n + m + test} × {side} px")
            head = settings["mine_neighbors"].get("layer") == "head"
            length = settings[stage][method]["projection"]["outputs"] if head else alone.outputs
            # Pairs of training images once, pairs of those held out once, and these against the training images.
            add("mine-neighbors: search", length * (n * n + m * m + 2 * n * m), *"-----", rate=A100.search)
            sizes.append([name, "features", short(2 * alone.outputs * (n + m + test) / 1e9), *"----"])
    run, classifiers = cost_beside.run_of(settings, (n, m, test)), sum(stage == "semisup" for stage, _ in runs)
    models = sum(stage != "pretrain" for stage, _ in runs)
    spaces = 1 + ("pretrain" in settings)
    scored = run.scored * (models + spaces - 1) + classifiers * cost_terms.vote_forwards(run)
    add("evaluate", scored * alone.forward, *"----", f"{scored} × {side} px")
    return times, sizes


def against_measured(options: Options) -> Table:
    """Steps of a small network on small images, beside what its bare forward and backward lets expect."""
    batch = 8 if options.quick else 128
    setup = Setup(BackboneSettings(name="tiny_resnet"), images(8 * batch, 3, 32, options.device), batch)
    trained = {method: trainer(stage, method, block, setup) for (stage, method), block in published().items()}
    flops = {}
    for name, each in trained.items():
        with watched(each.method.network) as recorded:
            each.step(0)
        passes = joined(recorded)
        flops[name] = flops_of(passes, {side: count(each.method.network, side) for side, _ in passes})
    plain, first = [Pass((2 * batch, 3, 32, 32), gradient=True, training=True)], trained["simclr"].method.network
    known = flops_of(joined(plain), {32: count(first, 32)})
    work = {"bare": bare(first, plain, options.device)} | {n: partial(t.step, 1) for n, t in trained.items()}
    rounds = interleave(work, rounds=1 if options.quick else 9)
    found = Rows()
    for name, own in flops.items():
        expected = [1e3 * own / known * seconds for seconds in rounds.seconds["bare"]]
        taken = [1e3 * seconds for seconds in rounds.seconds[name]]
        ratio = Spread.of([a / b for a, b in zip(taken, expected, strict=True)])
        found.append([name, own / 1e9, Spread.of(expected), Spread.of(taken), ratio])
    columns = ["method", "GFLOP a step", "predicted, ms", "measured, ms", "measured / predicted"]
    rate = f"{known / 1e9 / rounds.time('bare').median:.3g} GFLOP/s"
    note = f"tiny_resnet, 32 px, batches of {batch}. A bare forward and backward of {2 * batch} images reaches {rate}."
    return Table("Predicted against measured", columns, found, note)


def measure(options: Options) -> list[Table]:
    """Times of each data set, bytes, and predictions beside measurements."""
    columns = ["recipe", "stage", "steps", "images a step", "views a step", "with gradient", "without", "PFLOP"]
    tables, sizes, taken = [], Rows(), [A100().flops(side) / 1e12 for side in (32, 224)]
    note = "An A100 is taken to reach {:.3g} TFLOP/s on images below 128 px, {:.3g} on larger ones.".format(*taken)
    for data, names in list(RECIPES.items())[: 1 if options.quick else None]:
        found = [rows(name) for name in names]
        # One store serves all recipes of a data set.
        sizes += [row for place, (_, of_bytes) in enumerate(found) for row in of_bytes[min(place, 1) :]]
        of_times = [row for times, _ in found for row in times]
        tables.append(Table(f"{data}: predicted, not measured", [*columns, "one A100", "eight A100s"], of_times, note))
    parts = ["recipe", "stage", "written", "checkpoint", "in it: moments", "in it: other", "activations of a step"]
    tables.append(Table("Bytes, in GB", parts, sizes, "Activations with floats as bfloat16, all on one device."))
    names = [name for each in list(RECIPES.values())[: 1 if options.quick else None] for name in each]
    read = {name: yaml.safe_load(recipes.text(name)) for name in names}
    tables.append(cost_beside.table({name: (each, splits_of(each)) for name, each in read.items()}))
    return [*tables, against_measured(options)]
