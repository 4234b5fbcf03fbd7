"""What the sub-folders of a folder mean: the usual layouts are recognised, doubtful ones are refused with names."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.io.errors import UserError
from sslpipe.preparation.folder_layout import read_layout
from sslpipe.preparation.part_names import part_named

sys.path.insert(0, str(Path(__file__).parents[1]))
from folders import folders


def read(*names, layout=None, labelled=()):
    return read_layout(names, layout, labelled=dict.fromkeys(labelled, "x"))


def refused(*names, layout=None):
    with pytest.raises(UserError) as caught:
        read(*names, layout=layout)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("name", "part", "labelled"),
    [
        *((name, "train", True) for name in ("train", "Train", "TRAIN", "training_set", "train2017", "seg_train")),
        *((name, "train", True) for name in ("TrainImages", "train-images", "train data", "trainset", "TRAINImages")),
        *((name, "test", True) for name in ("test", "Test", "test_set", "testing", "seg_test", "Evaluation")),
        *(
            (name, "held_out", True)
            for name in ("val", "valid", "Validation", "val2017", "dev", "val_images", "held_out", "Hold-Out")
        ),
        *((name, "train", False) for name in ("unlabeled", "Unlabelled", "unlabeled_images", "train_unlabeled")),
    ],
)
def test_usual_names_of_parts(name, part, labelled):
    found = part_named(name)
    assert (found.part, found.labelled) == (part, labelled)


@pytest.mark.parametrize(
    "name", ["cat", "trainer", "steam_train", "contest", "train_test", "1", "", "images", "évaluer"]
)
def test_other_names_are_no_parts(name):
    assert part_named(name) is None


def test_sub_folders_are_classes():
    found = read("cat/1.png", "cat/old/2.png", "dog/1.png")
    assert found.name == "classes"
    assert found.images == {"cat/1.png": (None, "cat"), "cat/old/2.png": (None, "cat"), "dog/1.png": (None, "dog")}


def test_images_alone_are_flat():
    assert read("a.png", "b.png").images == {"a.png": (None, None), "b.png": (None, None)}


@pytest.mark.parametrize("names", [("Train", "Test", "val"), ("training_set", "test_set", "validation_set")])
def test_parts_with_classes(names):
    train, test, val = names
    found = read(f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/b/1.png", f"{val}/a/1.png", f"{val}/b/2.png")
    assert found.name == "parts"
    assert found.images == {
        f"{train}/a/1.png": ("train", "a"),
        f"{train}/b/1.png": ("train", "b"),
        f"{test}/b/1.png": ("test", "b"),
        f"{val}/a/1.png": ("held_out", "a"),
        f"{val}/b/2.png": ("held_out", "b"),
    }


def test_a_part_without_class_folders_has_no_labels():
    found = read("train/a/1.png", "train/b/1.png", "test/1.png", "unlabeled/x/1.png", "unlabeled/2.png")
    assert found.images["test/1.png"] == ("test", None)
    assert found.images["unlabeled/x/1.png"] == ("train", None)


@pytest.mark.parametrize("wrapper", ["photos", "photos/2024", "train", "train/train", "TRAIN/images"])
def test_a_folder_that_is_alone_is_searched_for_the_layout(wrapper):
    found = read(f"{wrapper}/cat/1.png", f"{wrapper}/dog/1.png")
    assert found.name == "classes"
    assert set(found.images.values()) == {(None, "cat"), (None, "dog")}
    found = read(f"{wrapper}/train/cat/1.png", f"{wrapper}/train/dog/1.png", f"{wrapper}/test/cat/1.png")
    assert set(found.images.values()) == {("train", "cat"), ("train", "dog"), ("test", "cat")}


def test_a_folder_that_is_alone_in_a_part_is_searched_too():
    found = read(
        "training_set/training_set/cats/1.png", "training_set/training_set/dogs/1.png", "test_set/test_set/cats/1.png"
    )
    assert set(found.images.values()) == {("train", "cats"), ("train", "dogs"), ("test", "cats")}


def test_a_lone_folder_of_images_is_no_class_and_it_is_said():
    found = read("photos/a.png", "photos/b.png")
    assert set(found.images.values()) == {(None, None)}
    assert list(found.notes) == ["photos/ is the only sub-folder and not taken as a class"]
    found = read("train/cat/1.png", "test/1.png")
    assert found.images["train/cat/1.png"] == ("train", None)
    assert "train/cat/ is the only sub-folder" in found.notes[0]


def test_train_is_a_class_among_vehicles():
    assert set(read("bus/1.png", "car/1.png", "train/1.png").images.values()) == {
        (None, "bus"), (None, "car"), (None, "train")
    }  # fmt: skip


def test_given_labels_make_folders_mean_nothing_but_parts():
    assert set(read("2019/1.png", "2020/2.png", "3.png", labelled=["3.png"]).images.values()) == {(None, None)}
    found = read("cat/1.png", "dog/2.png", layout="classes", labelled=["cat/1.png"])
    assert (found.name, set(found.images.values())) == ("flat", {(None, None)})
    assert found.notes == ["sub-folders are no classes, since a table has labels"]
    found = read("train/x/1.png", "train/y/1.png", "test/x/1.png", "test/y/1.png", labelled=["train/x/1.png"])
    assert set(found.images.values()) == {("train", None), ("test", "x"), ("test", "y")}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["a.png", "cat/1.png", "dog/1.png"], ["1 image (a.png) beside cat/, dog/"]),
        (["train/a.png", "train/cat/1.png", "train/dog/1.png", "test/cat/1.png"], ["1 image (train/a.png) beside"]),
        (["Cat/1.png", "cat/1.png"], ["Cat/ and cat/ differ by case only"]),
        (["Straße/1.png", "STRASSE/1.png"], ["differ by case"]),
        (["K\u00e4fer/1.png", "Ka\u0308fer/1.png"], ["'K\\xe4fer'/", "'Ka\\u0308fer'/", "Unicode form"]),
        (["train/Cat/1.png", "train/cat/1.png", "test/cat/1.png"], ["Cat/ and cat/"]),
        (
            ["train/a/1.png", "train/b/1.png", "extra/1.png"],
            ["extra/ beside the part train/", "into a part such as train/ or away"],
        ),
        (
            ["train/a/1.png", "train/b/1.png", "test/a/1.png", "read_me.png"],
            ["1 image (read_me.png) beside the parts train/, test/"],
        ),
        (["cat/1.png", "dog/1.png", "test/1.png"], ["cat/, dog/ beside the part test/"]),
        (["val/a/1.png", "test/a/1.png"], ["no train/"]),
        (["train/1.png", "Train/2.png", "test/1.png"], ["train/ and Train/ have the name of the same part"]),
        (["train/1.png", "training/2.png"], ["train/ and training/"]),
        (["cat/train/1.png", "cat/test/1.png", "dog/train/1.png"], ["cat/train/, cat/test/", "expected train/cat/"]),
    ],
)
def test_doubtful_layouts_are_refused_with_names_and_what_to_do(names, parts):
    line = refused(*names)
    for part in parts:
        assert part in line
    assert "--layout" in line or "rename" in line


@pytest.mark.parametrize(
    ("names", "layout", "expected", "note"),
    [
        (
            ["a.png", "cat/1.png", "dog/1.png"],
            "classes",
            [(None, None), (None, "cat"), (None, "dog")],
            "no label for 1 image beside",
        ),
        (["a.png", "cat/1.png", "dog/1.png"], "flat", [(None, None)] * 3, None),
        (["Cat/1.png", "cat/1.png"], "classes", [(None, "Cat"), (None, "cat")], "differ by case only"),
        (["train/1.png", "test/1.png"], "classes", [(None, "train"), (None, "test")], "names of parts"),
        (["train/1.png", "test/1.png"], "flat", [(None, None)] * 2, None),
        (["train/a/1.png", "train/b/1.png", "x/1.png", "y.png"], "parts", [("train", "a"), ("train", "b")], "2 images"),
        (
            ["cat/train/1.png", "cat/test/1.png", "dog/1.png"],
            "classes",
            [(None, "cat")] * 2 + [(None, "dog")],
            "parts inside",
        ),
    ],
)
def test_the_setting_decides(names, layout, expected, note):
    found = read(*names, layout=layout)
    assert found.name == layout
    assert list(found.images.values()) == expected
    assert [note in text for text in found.notes] == ([True] if note else [])


def test_a_folder_named_images_is_no_class_and_needs_no_note():
    found = read("train/images/1.png", "test/images/2.png")
    assert set(found.images.values()) == {("train", None), ("test", None)}
    assert found.notes == []


def test_a_layout_that_is_not_there_is_refused():
    assert "no sub-folder has the name of a part" in refused("cat/1.png", "dog/1.png", layout="parts")
    assert "the only class folder is x/cat/" in refused("x/cat/1.png", layout="classes")
    assert "no class folder has images" in refused("1.png", layout="classes")


def test_a_thousand_folders_deep_is_quick():
    deep = "d/" * 1500
    assert set(read(f"{deep}cat/1.png", f"{deep}dog/1.png").images.values()) == {(None, "cat"), (None, "dog")}


@settings(max_examples=300, deadline=None)
@given(folders(), st.randoms(use_true_random=False))
def test_any_folder_is_read_as_it_was_meant_or_refused(folder, random):
    expected, doubtful = folder
    names = list(expected)
    random.shuffle(names)
    if doubtful:
        refused(*names)
    else:
        if {part for part, _ in expected.values()} == {"train"}:  # alone, train/ is a folder like another one
            expected = {name: (None, label) for name, (_, label) in expected.items()}
        assert dict(read(*names).images) == expected
