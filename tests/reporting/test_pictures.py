import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

sys.path.insert(0, str(Path(__file__).parent))
from small_project import Project

from sslpipe.reporting.map import embed, map_part, scaled
from sslpipe.reporting.neighbors import Similar, compressed, find_similar, neighbors_part
from sslpipe.reporting.pictures import picture, single_pictures, write_sheets
from sslpipe.reporting.shown_images import choose_shown

CPU = torch.device("cpu")


def test_pictures_are_where_their_numbers_say(tmp_path):
    project = Project(tmp_path, counts=(1100, 30, 40))
    images = choose_shown(project.store, 10**6, 0)
    (tmp_path / "sprites").mkdir()
    about = write_sheets(images, tmp_path / "sprites", [1169, 3])
    sizes = {"side": 64, "columns": 32, "perSheet": 1024}
    assert about == {**sizes, "sheets": 2, "extension": "jpg", "first": [1169, 3]}
    pixels = np.concatenate([project.store.images(split) for split in ("train", "held_out", "test")])
    for i in (0, 31, 32, 1023, 1024, 1099, 1100, 1169):
        with Image.open(tmp_path / f"sprites/{i // 1024:04d}.jpg") as sheet:
            left, top = i % 32 * 64, i % 1024 // 32 * 64
            found = np.asarray(sheet.crop((left, top, left + 64, top + 64)), np.float64)
        expected = np.asarray(picture(pixels[i]), np.float64)
        others = np.asarray(picture(pixels[i - 1]), np.float64)
        assert np.abs(found - expected).mean() < np.abs(found - others).mean() / 2
    with Image.open(tmp_path / "sprites/first-0000.jpg") as sheet:
        assert sheet.size == (2048, 64)
        for place, i in enumerate((1169, 3)):
            found = np.asarray(sheet.crop((place * 64, 0, place * 64 + 64, 64)), np.float64)
            assert np.abs(found - np.asarray(picture(pixels[i]), np.float64)).mean() < 40
    wanted = [5, 1100, 1169]
    for i, data in zip(wanted, single_pictures(images, wanted), strict=True):
        found = np.asarray(Image.open(BytesIO(data)), np.float64)
        assert np.abs(found - np.asarray(picture(pixels[i]), np.float64)).mean() < 40


def test_small_images_keep_their_pixels_and_large_ones_are_averaged():
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16), dtype=np.uint8)
    assert np.array_equal(np.asarray(picture(image))[::4, ::4], image[0])
    large = np.zeros((3, 128, 128), np.uint8)
    large[:, ::2] = 200
    assert np.asarray(picture(large)).tolist() == np.full((64, 64, 3), 100).tolist()


def test_neighbours_are_those_of_scikit_learn():
    features = np.random.default_rng(0).normal(size=(300, 40))
    similar = find_similar(torch.from_numpy(features).float(), 5, CPU)
    expected = NearestNeighbors(n_neighbors=6).fit(normalize(features)).kneighbors()[1][:, :5]
    assert np.array_equal(similar.index, expected)
    assert neighbors_part(similar, 3)["k"] == 3


def test_many_dimensions_are_compressed_and_keep_their_cosines():
    rng = np.random.default_rng(0)
    # Of low rank, away from 0, as features are.
    features = (rng.normal(size=(400, 30)) @ rng.normal(size=(30, 500)) + 3).astype(np.float32)
    vectors = compressed(torch.from_numpy(features))
    assert vectors.shape[1] <= 129
    unit = normalize(features)
    np.testing.assert_allclose(vectors @ vectors.T, unit @ unit.T, atol=1e-3)


def similar_of(count, seed=0):
    features = np.random.default_rng(seed).normal(size=(count, 10))
    features[np.arange(count), np.arange(count) % 3] += 8
    return find_similar(torch.from_numpy(features).float(), 30, CPU)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12, 40])
def test_few_images_have_places(count):
    places = scaled(embed(similar_of(count), 0))
    assert places.shape == (count, 2)
    assert places.min() >= 0
    assert places.max() <= 65535
    assert len(np.unique(places, axis=0)) == count


def test_groups_stay_together_on_the_map():
    places = scaled(embed(similar_of(300), 0))
    nearest = NearestNeighbors(n_neighbors=5).fit(places).kneighbors()[1][:, 1:]
    assert (nearest % 3 == np.arange(300)[:, None] % 3).mean() > 0.95


def test_the_map_does_not_depend_on_threads():
    similar, before = similar_of(1500), torch.get_num_threads()
    try:
        parts = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            parts.append(map_part(similar, 0, "features"))
    finally:
        torch.set_num_threads(before)
    assert parts[0] == parts[1]
    assert "nothing is clustered upon it" in parts[0]["how"]


def test_equal_images_have_places_too():
    vectors = np.ones((50, 4), np.float32) / 2
    index = np.array([[j for j in range(50) if j != i][:30] for i in range(50)])
    places = scaled(embed(Similar(vectors, index, np.ones((50, 30), np.float32)), 0))
    assert places.shape == (50, 2)
