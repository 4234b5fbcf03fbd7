"""Every method in a tiny form, for the tests that hold for all of them."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch

from sslpipe.data.batches import Batch, Batches, LabelledBatches, PairedBatches
from sslpipe.data.held_out import HeldOut
from sslpipe.data.labelled import LabelledImages
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import fit
from sslpipe.methods.cluster import scan
from sslpipe.methods.pretrain import _base, byol, dino, feature_decoupling, moco, nce, propos, rotnet, simclr, swav
from sslpipe.methods.self_label import confident
from sslpipe.methods.semisup import alternation, daino, fixmatch, mixmatch, simmatch, suave, supervised, uda
from sslpipe.methods.semisup._base import Problem
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.heads import LinearHead, LinearSettings, ProjectionSettings
from sslpipe.nets.network import Network
from sslpipe.nets.tuning import TuningSettings
from sslpipe.views.policies import ViewSettings

WEAK = ViewSettings(policy="weak", flip=0.0)
STRONG = ViewSettings(policy="randaugment", flip=0.0)
CROP = ViewSettings(policy="plain", crop_scale=(0.5, 1.0))
SMALL_CROP = ViewSettings(policy="plain", crop_scale=(0.2, 0.5), size=6)
LABELLED = {"labelled_batch": 20, "views": WEAK, "ema_decay": 0.9}
PROJECTION = ProjectionSettings(hidden=32, outputs=16, batch_norm=True)
CROPS = {"global_views": CROP, "second_global_views": {}, "local_views": SMALL_CROP, "local_crops": 1}
# k-means after every second step, so that a run of one short epoch has clusters too.
PROPOS = {
    "clusters": 10,
    "projection": PROJECTION,
    "prediction": PROJECTION,
    "ema_decay": 0.9,
    "noise": 0.1,
    "warmup_epochs": 0.3,
    "predictor_rate": 2.0,
    "views": CROP,
    "second_views": WEAK,
    "fit": replace(propos.Settings(clusters=10).fit, interval=2),
}
PROTOTYPES = {
    "labelled_batch": 20,
    "views": WEAK,
    "hidden": 32,
    "outputs": 16,
    **CROPS,
    "local_crops": 2,
}


def few_labels(digits, each=4):
    """The first `each` training images of each class, labelled."""
    train, _, label, _ = digits
    label = torch.as_tensor(label, device=train.device)
    index = torch.cat([(label == number).nonzero()[:each, 0] for number in range(10)]).sort().values
    return LabelledImages(train, index, label[index], tuple("0123456789"))


def tiny_problem(digits, network):
    """40 labels, and the held-out images with their labels."""
    return Problem(network, few_labels(digits), HeldOut(digits[1], torch.as_tensor(digits[3], device=digits[1].device)))


@dataclass(frozen=True)
class GivenProblem(_base.Problem):
    """A pretext task on an existing network."""

    given: Network

    def network(self):
        return self.given


def pretext_given(digits, network):
    """The digits, the held-out ones, and a network."""
    train, held_out, _, _ = digits
    info = SimpleNamespace(mean=network.mean.flatten().tolist())
    return GivenProblem(network.settings, info, train, held_out, network)


def pretext(module, **settings):
    """A builder: (digits, network) → (settings, method)."""

    def build(digits, network):
        chosen = module.Settings(**settings)
        return chosen, module.Method(chosen, pretext_given(digits, network))

    return build


def scan_method(digits, network, **further):
    settings = scan.Settings(clusters=10, heads=2, **further)
    neighborhoods = []
    for images in digits[:2]:
        indices, _ = nearest_neighbors(torch.from_numpy(images.array).flatten(1).float(), k=5)
        neighborhoods.append(scan.Neighborhood(images, torch.from_numpy(indices).to(images.device)))
    return settings, scan.Method(settings, scan.Problem(network, *neighborhoods))


def confident_method(digits, network, **further):
    settings = confident.Settings(threshold=0.1, targets="averaged", ema_decay=0.9, **further)
    network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=10))
    return settings, confident.Method(settings, confident.Problem(network, digits[0]))


def with_labels(module, **settings):
    """A builder of a method with few labels: (digits, network) → (settings, method)."""

    def build(digits, network):
        chosen = module.Settings(**settings)
        return chosen, module.Method(chosen, tiny_problem(digits, network))

    return build


MATCH = {**LABELLED, "strong": STRONG, "threshold": 0.2}
SIMMATCH = {**MATCH, "alignment_steps": 6, "hidden": 32, "outputs": 16}
LAST_BLOCK = TuningSettings(train="last_blocks", blocks=1)
UPDATES = TuningSettings(train="lora", rank=4, alpha=8.0, layer_decay=0.7)
LABELLED_METHODS = {
    "semisup/supervised": with_labels(supervised, **LABELLED),
    "semisup/fixmatch": with_labels(fixmatch, **MATCH),
    "semisup/fixmatch ctaugment alignment": with_labels(
        fixmatch, **MATCH, ctaugment=True, alignment=True, alignment_steps=6
    ),
    "semisup/fixmatch last block": with_labels(fixmatch, **MATCH, backbone=LAST_BLOCK),
    "semisup/mixmatch": with_labels(mixmatch, **LABELLED),
    "semisup/uda": with_labels(uda, **MATCH, annealing="linear"),
    "semisup/simmatch temporal": with_labels(simmatch, **SIMMATCH),
    "semisup/simmatch teacher": with_labels(simmatch, **SIMMATCH, memory="teacher"),
    "semisup/simmatch lora": with_labels(
        simmatch, **SIMMATCH, memory="teacher", teacher_statistics="batch", backbone=UPDATES
    ),
    "semisup/suave": with_labels(suave, **PROTOTYPES, queue=100, momentum_encoder=True, ema_decay=0.9),
    "semisup/daino": with_labels(daino, **PROTOTYPES, ema_decay=0.8, teacher_temperature_epochs=2.0),
    # Epochs: rotation, semi-supervised, rotation, clustering, semi-supervised.
    "semisup/alternation": with_labels(
        alternation,
        base="fixmatch",
        ssl={"ema_decay": 0.9, "threshold": 0.2, "views": {"flip": 0.0}, "strong": {"flip": 0.0}},
        labelled_batch=20,
        warmup_epochs=1,
        ssl_epochs=1,
        share=0.8,
        copies=2,
    ),
    # The same epochs, in the form of its public code, over UDA.
    "semisup/alternation public": with_labels(
        alternation,
        base="uda",
        ssl={
            **{"ema_decay": 0.9, "threshold": 0.8, "normalize_by": "confident", "annealing": "linear"},
            **{"views": {"flip": 0.0}, "strong": {"flip": 0.0}},
        },
        labelled_batch=20,
        warmup_epochs=1,
        ssl_epochs=1,
        share=0.8,
        radius=0.8,
        copies=2,
        distance="euclidean",
        reduction="mean",
        cluster_batch=32,
        lr_milestones=(1,),
        schedule_over="semisupervised",
        average_in="semisupervised",
    ),
}
METHODS = {
    "pretrain/simclr": pretext(simclr),
    "pretrain/nce softmax": pretext(nce, negatives=0),
    "pretrain/nce noise": pretext(nce, negatives=32, proximal=0.5),
    "pretrain/moco": pretext(moco, projection=PROJECTION, ema_decay=0.9, views=CROP),
    "pretrain/byol": pretext(
        byol, projection=PROJECTION, prediction=PROJECTION, ema_decay=0.9, views=CROP, second_views=WEAK
    ),
    "pretrain/propos": pretext(propos, **PROPOS),
    "pretrain/rotnet": pretext(rotnet, views=WEAK),
    "pretrain/feature_decoupling": pretext(
        feature_decoupling, negatives=32, outputs=16, views=CROP, ambiguity_from=0.4
    ),
    "pretrain/feature_decoupling noise": pretext(
        feature_decoupling,
        instances="nce",
        negatives=100,
        temperature=0.2,
        rotation_weight=0.3,
        agreement_weight=10.0,
        outputs=16,
        views=CROP,
    ),
    "pretrain/swav": pretext(
        swav, prototypes=30, hidden=32, outputs=16, **CROPS, queue=100, queue_from_epoch=2.0, frozen_epochs=0.5
    ),
    "pretrain/dino": pretext(
        dino,
        prototypes=30,
        hidden=32,
        outputs=16,
        **CROPS,
        ema_decay=0.8,
        teacher_temperature=(0.04, 0.07),
        teacher_temperature_epochs=2.0,
        frozen_epochs=0.5,
    ),
    "cluster/scan": scan_method,
    "self_label/confident": confident_method,
    **LABELLED_METHODS,
}


def stream_of(digits, settings, method, batch):
    """The batches that the method learns from, `batch` images each, in pairs with labelled ones if it has labels."""
    stream = Batches(digits[0], batch, seed=0, needs=method.needs())
    if hasattr(settings, "labelled_batch"):
        return PairedBatches(stream, LabelledBatches(few_labels(digits), settings.labelled_batch, seed=0))
    return stream


def train(name, digits, settings, method, *, batch, lr=1e-3, checkpoint=None, live=None, **budget):
    """The history of a run of seed 0 with Adam or AdamW, without the column that is never the same.

    budget: further fields of FitSettings.
    """
    name_of_optimizer = "adamw" if settings.fit.optimizer.name == "adamw" else "adam"
    optimizer = replace(settings.fit.optimizer.base_for({"name": name_of_optimizer}), lr=lr)
    chosen = replace(settings.fit, batch=batch, optimizer=optimizer, **budget)
    stream = stream_of(digits, settings, method, batch)
    checkpoint = checkpoint or Checkpoint(None, 1e9)
    return fit(method, stream, chosen, where=name, seed=0, checkpoint=checkpoint, live=live).history


def batch_of(digits, count=30):
    """The first training images as a batch."""
    index = torch.arange(count)
    return Batch(image=digits[0][index], index=index)


def losses_of(method, batch, generator):
    """The terms of a step: its views are drawn, and the method's losses computed."""
    draw_neighbors = method.needs().neighbors
    if draw_neighbors is not None and batch.neighbor is None:
        neighbor = draw_neighbors(batch.index, generator)
        batch = replace(batch, neighbor=neighbor, neighbor_image=method.train_set.images[neighbor])
    with torch.no_grad():
        views = method.draw_views(batch, generator)
    return method.losses(batch, views, generator)


def outputs_of(module):
    """A list that fills with the module's outputs."""
    seen = []
    module.register_forward_hook(lambda _, given, output: seen.append(output.detach().clone()))
    return seen
