import errno
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from sslpipe.data.store import SPLITS, Store
from sslpipe.decoding.entries import Entry
from sslpipe.io.errors import UserError
from sslpipe.io.params import Params
from sslpipe.preparation.growing_array import GrowingArray
from sslpipe.preparation.pixel_statistics import PixelStatistics
from sslpipe.preparation.splits import Labelled
from sslpipe.preparation.store_writer import Settings, read_settings, write_store
from sslpipe.sources import folder

RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (60, 6, 6, 3), dtype=np.uint8)


class Arrays:
    """60 images of three classes, every fifth without a label."""

    settings = folder.Settings(path="arrays")
    classes = ("a", "b", "c")
    entries = tuple(Entry(f"{i}", -1 if i % 5 == 0 else i % 3) for i in range(60))
    ignored: dict[str, int] = {}  # noqa: RUF012
    unreadable: dict[str, str] = {}  # noqa: RUF012

    def load(self, index):
        return IMAGES[index]


def write(out, source=None, *, protocol="split", seed=0, workers=1, strict=False, **settings):
    settings = Settings(**{"size": 6, "channels": 3, **settings})
    return write_store(out, source or Arrays(), settings, protocol=protocol, seed=seed, workers=workers, strict=strict)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def npy(array) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def picture_folder(root: Path, count: int = 24) -> folder.Source:
    for i in range(count):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i]).save(path)
    return folder.Source(folder.Settings(path=str(root)))


@pytest.mark.parametrize("protocol", ["split", "full"])
def test_what_is_written_is_read_again(tmp_path, protocol):
    prepared = write(tmp_path / "out", protocol=protocol, labelled=Labelled(per_class=3))
    store = Store(tmp_path / "out")
    assert store.info == prepared.info
    assert store.info.protocol == protocol
    assert [store.info.count(split) for split in SPLITS] == ([40, 5, 15] if protocol == "split" else [54, 6, 0])
    places = []
    for split in SPLITS:
        place = [int(name) for name in store.files(split)]
        np.testing.assert_array_equal(store.images(split), IMAGES[place].transpose(0, 3, 1, 2))
        assert store.labels(split).tolist() == [Arrays.entries[i].label for i in place]
        places += place
    assert sorted(places) == list(range(60))
    index, label = store.labelled()
    assert (np.diff(index) > 0).all()
    assert label.tolist() == store.labels("train")[index].tolist()
    assert np.bincount(label).tolist() == [3, 3, 3]


def test_statistics_are_those_of_the_training_images_alone(tmp_path):
    write(tmp_path / "out")
    store = Store(tmp_path / "out")
    train = store.images("train") / 255
    np.testing.assert_allclose(store.info.mean, train.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(store.info.std, train.std((0, 2, 3)), rtol=1e-12)


@given(
    images=arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 4)),
    cut=st.integers(0, 4),
)
@hypothesis_settings(deadline=None)
def test_statistics_equal_a_plain_loop_however_they_are_cut(images, cut):
    statistics = PixelStatistics(images.shape[1])
    for part in (images[:cut], images[cut:]):
        statistics.add(part)
    mean, std = statistics.mean_std()
    for channel in range(images.shape[1]):
        values = [int(v) / 255 for v in images[:, channel].ravel()]
        expected = sum(values) / len(values)
        spread = (sum((v - expected) ** 2 for v in values) / len(values)) ** 0.5
        assert mean[channel] == pytest.approx(expected, rel=1e-12)
        assert std[channel] == pytest.approx(spread if len(set(values)) > 1 else 1.0, rel=1e-9)


@pytest.mark.parametrize("count", [0, 1, 9, 12345])
def test_a_growing_array_is_a_plain_npy_file(tmp_path, count):
    images = RNG.integers(0, 256, (count, 1, 2, 3), dtype=np.uint8)
    with GrowingArray(tmp_path / "a.npy", (1, 2, 3)) as file:
        for start in range(0, count, 1000):
            file.append(images[start : start + 1000].tobytes())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), images)


def test_fingerprint_tells_stores_apart(tmp_path):
    names = ["same", "again", "seed", "size", "grey", "full"]
    changes = [{}, {}, {"seed": 1}, {"size": 5}, {"channels": 1}, {"protocol": "full"}]
    found = [write(tmp_path / name, **change).info.fingerprint for name, change in zip(names, changes, strict=True)]
    assert found[0] == found[1]
    assert len(set(found)) == 5


@pytest.mark.parametrize("other", [Labelled(fraction=0.5), Labelled(per_class=1, fold=1)])
def test_labelled_changes_nothing_but_itself(tmp_path, other):
    write(tmp_path / "few", labelled=Labelled(per_class=1))
    write(tmp_path / "other", labelled=other)
    few, others = contents(tmp_path / "few"), contents(tmp_path / "other")
    changed = {name for name in few if few[name] != others[name]}
    assert "labelled/index.npy" in changed
    assert changed <= {"labelled/index.npy", "labelled/label.npy", "report.json"}


def test_a_store_without_labels_has_no_labelled_images(tmp_path):
    for i in range(4):
        Image.fromarray(IMAGES[i]).save(tmp_path / f"{i}.png")
    write(tmp_path / "out", folder.Source(folder.Settings(path=str(tmp_path))), held_out=0.0)
    index, label = Store(tmp_path / "out").labelled()
    assert len(index) == len(label) == 0


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.decode.CHUNK_IMAGES", 3)
    source = picture_folder(tmp_path / "pictures")
    (tmp_path / "pictures/a/4.png").write_text("broken")
    for workers in (1, 2):
        write(tmp_path / f"out{workers}", source, workers=workers)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_broken_files_are_left_out_and_reported(tmp_path):
    source = picture_folder(tmp_path / "pictures")
    whole = write(tmp_path / "whole", source, held_out=0.25)
    before = {split: Store(tmp_path / "whole").files(split) for split in SPLITS}
    victims = [before["train"][0], before["train"][-1], before["held_out"][0], before["test"][0]]
    for name in victims:
        (tmp_path / "pictures" / name).write_bytes(b"")
    prepared = write(tmp_path / "out", source, held_out=0.25)
    store = Store(tmp_path / "out")
    assert prepared.broken == 4
    assert (store.info.train, store.info.held_out, store.info.test) == (
        whole.info.train - 2,
        whole.info.held_out - 1,
        whole.info.test - 1,
    )
    for split in SPLITS:
        assert store.files(split) == [name for name in before[split] if name not in victims]
        assert len(store.images(split)) == len(store.labels(split)) == store.info.count(split)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert {entry["file"] for entry in report["broken"]} == set(victims)
    assert report["splits"]["train"]["images"] == store.info.train
    assert report["splits"]["train"]["classes"] == dict(
        zip("ab", np.bincount(store.labels("train")).tolist(), strict=True)
    )
    assert report["source"]["name"] == "digits"
    assert report["source"]["path"] == str(tmp_path / "pictures")


def test_strict_names_the_first_and_leaves_the_last_store(tmp_path):
    source = picture_folder(tmp_path / "pictures")
    write(tmp_path / "out", source)
    before = contents(tmp_path / "out")
    for name in ("b/3.png", "a/2.png", "b/1.png"):
        (tmp_path / "pictures" / name).write_text("broken")
    with pytest.raises(UserError, match=r"3 of 24 images broken.*'a/2.png': not an image"):
        write(tmp_path / "out", source, strict=True)
    assert contents(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]


def test_strict_without_broken_files_is_the_same_store(tmp_path):
    source = picture_folder(tmp_path / "pictures")
    write(tmp_path / "a", source)
    write(tmp_path / "b", source, strict=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_class_short_of_labels_is_said_before_decoding_and_after(tmp_path, monkeypatch):
    source = picture_folder(tmp_path / "pictures")
    with pytest.raises(UserError, match=r"9 is more than the 8 .* of class 'a'"):
        write(tmp_path / "out", source, labelled=Labelled(per_class=9), held_out=0.1)
    for i in range(0, 20, 2):
        (tmp_path / f"pictures/a/{i}.png").write_text("broken")
    with pytest.raises(UserError, match=r"5 is more than the \d .* of class 'a'"):
        write(tmp_path / "out", source, labelled=Labelled(per_class=5))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"test": 1.0}, {"held_out": 1.0}])
def test_no_training_image(tmp_path, change):
    with pytest.raises(UserError, match="no training image remains of 60 images"):
        write(tmp_path / "out", **change)


def test_no_training_image_because_all_are_broken(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    source = folder.Source(folder.Settings(path=str(tmp_path / "images")))
    with pytest.raises(UserError, match=r"of 3 images, .*; 3 broken: an empty file found, expected an image$"):
        write(tmp_path / "out", source)


def test_names_that_are_no_utf8(tmp_path):
    root = tmp_path / "pictures"
    path = root / "caf\udce9" / "a\udcff\n.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(path)
    (root / "dog").mkdir()
    Image.fromarray(IMAGES[1]).save(root / "dog" / "1.png")
    write(tmp_path / "out", folder.Source(folder.Settings(path=str(root))), test=0.0, held_out=0.0)
    store = Store(tmp_path / "out")
    assert store.classes == (r"caf\xe9", "dog")
    assert store.files("train") == ["caf\\xe9/a\\xff\n.png", "dog/1.png"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def refuse(self, images):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GrowingArray, "append", refuse)
    with pytest.raises(UserError, match="out: cannot be written: No space left on device"):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train/images.npy", lambda data: data[:-1], "not readable as an array"),
        ("train/images.npy", lambda data: data[:100], "not readable as an array"),
        ("train/images.npy", lambda data: b"", "not readable as an array"),
        ("train/images.npy", lambda data: None, "no such file"),
        ("store.json", lambda data: data[:-20], "not readable as JSON"),
        ("store.json", lambda data: data.replace(b'"size": 6', b'"size": 7'), "expected uint8 .* as in store.json"),
        ("labelled/index.npy", lambda data: data[:-8] + b"\xff" * 8, "-1 found, expected int64 .* below 40"),
        ("labelled/index.npy", lambda data: data[:-8] + data[-16:-8], "expected ascending indices"),
        ("labelled/index.npy", lambda data: data.replace(b"<i8", b"<f8"), r"float64 \[32\] found, expected int64"),
        ("labelled/index.npy", lambda data: npy(np.zeros((3, 2), np.int64)), r"int64 \[3, 2\] found, expected int64"),
        ("labelled/label.npy", lambda data: data[:-8] + np.int64(3).tobytes(), "3 found, expected int64 .* below 3"),
        ("labelled/label.npy", lambda data: npy(np.zeros(31, np.int64)), "32 in index.npy and 31 in label.npy found"),
        ("labelled/label.npy", lambda data: None, "no such file"),
    ],
)
def test_a_damaged_store_is_refused(tmp_path, name, damage, message):
    write(tmp_path / "out")
    path = tmp_path / "out" / name
    data = damage(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)

    def read():
        store = Store(tmp_path / "out")
        store.images("train")
        store.labelled()

    with pytest.raises(UserError, match=message) as raised:
        read()
    assert path.name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("block", ["[]", "0", "false", "''"])
def test_a_block_that_is_no_block_is_refused(tmp_path, block):
    path = tmp_path / "params.yaml"
    path.write_text(f"prepare: {block}\n")
    with pytest.raises(UserError, match=r"prepare: .* found, expected a block of keys"):
        read_settings(Params(path), sources=("digits",))
    path.write_text("prepare:\n")
    assert read_settings(Params(path), sources=("digits",)) == Settings()
