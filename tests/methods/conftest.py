import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches
from sslpipe.data.images import Images
from sslpipe.data.store import StoreInfo
from sslpipe.methods.semisup._base import Problem
from sslpipe.nets.network import BackboneSettings, build_network

sys.path.insert(0, str(Path(__file__).parent))
from every_method import few_labels

INFO = StoreInfo(
    size=8,
    channels=1,
    mean=(0.3,),
    std=(0.37,),
    train=300,
    held_out=60,
    test=0,
    protocol="split",
    fingerprint="0" * 64,
)


@pytest.fixture(scope="session")
def digits():
    """8 × 8 digits: 300 to train on and 60 held out, with labels."""
    data = load_digits()
    images = (data.images * (255 / 16)).astype(np.uint8)[:, None]
    cpu = torch.device("cpu")
    return Images(images[:300], cpu), Images(images[300:360], cpu), data.target[:300], data.target[300:360]


@pytest.fixture(scope="session")
def info():
    """What a store of these images says of them."""
    return INFO


@pytest.fixture
def network():
    """A small network with start values of seed 0."""
    torch.manual_seed(0)
    return build_network(BackboneSettings(name="tiny_resnet"), INFO)


@pytest.fixture(scope="session")
def labelled(digits):
    """The first four images of each class, labelled."""
    return few_labels(digits)


@pytest.fixture
def problem(network, labelled):
    """The small network from scratch, 40 labels."""
    return Problem(network, labelled)


@pytest.fixture(scope="session")
def pair(digits, labelled):
    """Twenty labelled images and thirty others."""
    return PairedBatches(Batches(digits[0], 30, seed=0), LabelledBatches(labelled, 20, seed=0)).at(0)


@pytest.fixture
def generator():
    """Draws of seed 0."""
    return torch.Generator().manual_seed(0)
