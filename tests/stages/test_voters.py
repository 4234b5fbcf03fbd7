"""Which labelled images rank the label permutations: some of each class, read once for all classifiers."""

from pathlib import Path

import numpy as np
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.data.unread_images import ChosenImages
from sslpipe.running import evaluation
from sslpipe.running.votes import find_voters, some_of_each
from stages.evaluate import evaluate

CPU = torch.device("cpu")


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 8), st.integers(0, 99))
def test_some_of_each_class_are_as_many_as_there_are_up_to_the_most(labels, most, seed):
    label = np.array(labels, dtype=np.int64)
    chosen = some_of_each(label, most, torch.Generator().manual_seed(seed))
    assert np.array_equal(chosen, np.unique(chosen))
    found, expected = np.bincount(label[chosen], minlength=5), np.bincount(label, minlength=5)
    assert np.array_equal(found, np.minimum(expected, most))


def test_few_labelled_images_all_vote_and_no_line_is_printed(project, capsys):
    voters = find_voters(Store(Path("runs/prepare")), CPU, per_class=4, seed=0)
    assert np.bincount(voters.label).tolist() == [4] * 10
    assert capsys.readouterr().out == ""


def test_of_many_labelled_images_some_vote_by_the_seed_and_a_line_says_so(project, capsys):
    store = Store(Path("runs/prepare"))
    index, label = store.labelled()
    first, again, other = (find_voters(store, CPU, per_class=3, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(first.label).tolist() == [3] * 10
    assert capsys.readouterr().out.splitlines()[0] == (
        "evaluate: label permutations are ranked by 30 of 40 labelled images, at most 3 of each class; "
        "evaluate.votes_per_class sets their number"
    )
    pixels = [each.images[torch.arange(30)].numpy() for each in (first, again, other)]
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])
    places = [next(i for i in index if np.array_equal(store.images("train")[i], image)) for image in pixels[0]]
    assert np.array_equal(label[np.searchsorted(index, places)], first.label)


def test_labelled_images_are_read_once_for_all_classifiers_and_the_scored_ones_never_joined(project, tiny, monkeypatch):
    """As many images pass a classifier as there are votes to count, in four rotations."""
    read, passed = [], []
    chosen, votes = ChosenImages.__getitem__, evaluation.Voters.votes

    def counted(self, network):
        network.register_forward_pre_hook(lambda _, args: passed[-1].append(len(args[0])))
        passed.append([])
        return votes(self, network)

    monkeypatch.setattr(ChosenImages, "__getitem__", lambda self, i: read.append(len(i)) or chosen(self, i))
    monkeypatch.setattr(evaluation.Voters, "votes", counted)
    Path("params.yaml").write_text(yaml.safe_dump({**tiny, "evaluate": {"votes_per_class": 2}}))
    evaluate()
    assert read == [20]
    assert len(passed) == len(tiny["semisup"]["methods"]) + len(tiny["finetune"]["methods"])
    assert all(sizes[:4] == [20] * 4 for sizes in passed)


def test_images_of_protocol_full_remain_in_their_files(project):
    import json

    path = Path("runs/prepare/store.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "protocol": "full"}))
    store = Store(Path("runs/prepare"))
    images, label = store.scored()
    parts = [store.images(split) for split in ("train", "held_out")]
    assert not isinstance(images, np.ndarray)
    assert len(images) == len(label) == sum(map(len, parts))
    everything = Images(images, CPU)[torch.arange(len(images))]
    np.testing.assert_array_equal(everything.numpy(), np.concatenate(parts))
