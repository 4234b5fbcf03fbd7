"""Images that are stored as JPEG: decoded alike by every way of reading them, whole files each."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.data.unread_images import ChosenImages, JoinedImages
from sslpipe.io.errors import UserError
from sslpipe.preparation.store_writer import Settings, write_store
from sslpipe.sources import folder

COUNT, SIDE = 30, 24


def pictures(root, mode):
    """Photographs of a kind: smooth, with some noise."""
    rng = np.random.default_rng(3)
    for i in range(COUNT):
        small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((40, 30), Image.Resampling.BICUBIC))
        smooth = smooth + rng.normal(0, 4, smooth.shape)
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).convert(mode).save(root / "ab"[i % 2] / f"{i}.png")
    return folder.Source(folder.Settings(path=str(root)))


@pytest.fixture(scope="module", params=[1, 3])
def stores(request, tmp_path_factory):
    """The same images as pixels, as JPEG, and as JPEG of low quality."""
    root = tmp_path_factory.mktemp("stores")
    source = pictures(root / "pictures", {1: "L", 3: "RGB"}[request.param])
    for name, changes in {
        "pixels": {},
        "jpeg": {"store": "jpeg"},
        "low": {"store": "jpeg", "jpeg_quality": 20},
    }.items():
        settings = Settings(size=SIDE, channels=request.param, test=0.2, held_out=0.2, **changes)
        write_store(root / name, source, settings, protocol="split", seed=0, workers=1, strict=True)
    return {name: Store(root / name) for name in ("pixels", "jpeg", "low")}


def test_images_are_nearly_those_that_were_encoded_and_quality_is_felt(stores):
    pixels, jpeg, low = (stores[name].images("train").__getitem__(slice(None)).astype(int) for name in stores)
    assert jpeg.shape == pixels.shape
    assert np.abs(jpeg - pixels).mean() < 3
    assert np.abs(jpeg - pixels).mean() < np.abs(low - pixels).mean()
    sizes = [(stores[name].root / "train/images.npy").stat().st_size for name in stores]
    assert sizes == sorted(sizes, reverse=True)


def test_statistics_and_fingerprint_are_those_of_what_is_read(stores):
    info, train = stores["jpeg"].info, stores["jpeg"].images("train")[:] / 255
    np.testing.assert_allclose(info.mean, train.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(info.std, train.std((0, 2, 3)), rtol=1e-12)
    assert len({store.info.fingerprint for store in stores.values()}) == 3
    assert info.jpeg_quality == 90
    assert stores["pixels"].info.jpeg_quality is None
    assert "jpeg_quality" not in (stores["pixels"].root / "store.json").read_text()


def test_each_image_is_a_file_that_any_decoder_reads(stores):
    """In baseline JPEG, without subsampling of colours."""
    images = stores["jpeg"].images("train")
    for place, file in enumerate(images.encoded(np.arange(len(images)))):
        with Image.open(BytesIO(file.numpy().tobytes())) as image:
            assert image.format == "JPEG"
            assert [layer[1:3] for layer in image.layer] == [(1, 1)] * images.shape[1]
            array = np.asarray(image).reshape(SIDE, SIDE, -1)
        np.testing.assert_array_equal(images[place], array.transpose(2, 0, 1))


@given(st.lists(st.integers(0, 17), max_size=40))
def test_every_way_to_read_is_the_same(stores, index):
    images = stores["jpeg"].images("train")
    whole, index = images[:], np.array(index, np.int64)
    assert (len(images), images.shape, images.nbytes) == (len(whole), whole.shape, whole.nbytes)
    np.testing.assert_array_equal(images[index], whole[index])
    out = torch.zeros((len(index), *images.shape[1:]), dtype=torch.uint8)
    images.read_into(index, out)
    np.testing.assert_array_equal(out.numpy(), whole[index])
    np.testing.assert_array_equal(images[2:9], whole[2:9])
    np.testing.assert_array_equal(images[-1], whole[-1])
    np.testing.assert_array_equal(ChosenImages(images, np.array([4, 2]))[np.array([1, 0])], whole[[2, 4]])
    np.testing.assert_array_equal(JoinedImages([images, images])[index + 3], np.concatenate([whole, whole])[index + 3])
    np.testing.assert_array_equal(Images(images, torch.device("cpu"))[torch.from_numpy(index)].numpy(), whole[index])


def test_parts_of_a_batch_are_decoded_by_several_threads_at_once(stores):
    images = stores["jpeg"].images("train")
    index = np.random.default_rng(0).integers(0, len(images), 400)
    out = torch.zeros((400, *images.shape[1:]), dtype=torch.uint8)
    with ThreadPoolExecutor(8) as pool:
        parts = [slice(*pair) for pair in pairwise(range(0, 401, 50))]
        list(pool.map(lambda part: images.read_into(index[part], out[part]), parts))
    np.testing.assert_array_equal(out.numpy(), images[:][index])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("images.npy", lambda data: data[:-1], "not readable as an array"),
        ("images.npy", lambda data: data[:128] + b"\0" * (len(data) - 128), r"image 0 is not readable \("),
        ("images.npy", None, "no such file"),
        ("offsets.npy", None, "no such file"),
        ("offsets.npy", lambda data: data[:-8] + np.int64(10**6).tobytes(), r"expected uint8 \[1000000\]"),
        ("offsets.npy", lambda data: data[:136] + data[144:152] + data[136:144] + data[152:], "not ascending"),
        ("../store.json", lambda data: data.replace(b'"size": 24', b'"size": 23'), r"expected \[\d, 23, 23\]"),
    ],
)
def test_a_damaged_store_is_refused(stores, tmp_path, name, damage, message):
    shutil.copytree(stores["jpeg"].root, tmp_path / "store")
    path = tmp_path / "store/train" / name
    data = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(data))
    with pytest.raises(UserError, match=message) as raised:
        Store(tmp_path / "store").images("train")[:]
    assert "\n" not in str(raised.value)
