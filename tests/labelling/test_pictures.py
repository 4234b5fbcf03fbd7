import shutil
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from stored import write_store

from sslpipe.labelling.errors import NotThereError
from sslpipe.labelling.pictures import Pictures


def pictures(folder, side, channels=3):
    rng = np.random.default_rng(0)
    # Smooth, as photographs are; JPEG keeps no noise.
    coarse = rng.integers(0, 256, (7, channels, 4, 4), dtype=np.uint8)
    images = np.stack([[Image.fromarray(c).resize((side, side)) for c in image] for image in coarse]).astype(np.uint8)
    return images, Pictures(write_store(folder / "store", {"train": images[:4], "held_out": images[4:6]}))


def opened(answer):
    content, kind = answer
    image = Image.open(BytesIO(content))
    assert kind == f"image/{image.format.lower()}"
    return image, np.asarray(image, np.float64)


@pytest.mark.parametrize(
    ("side", "thumb", "kind"),
    [(8, 8, "PNG"), (99, 99, "PNG"), (100, 100, "JPEG"), (128, 128, "JPEG"), (192, 128, "JPEG")],
)
def test_large_pictures_have_the_stored_size_and_small_ones_at_most_128_pixels(tmp_path, side, thumb, kind):
    images, found = pictures(tmp_path, side)
    for i in range(6):
        large, pixels = opened(found.picture(i, large=True))
        assert (large.format, large.size) == (kind, (side, side))
        expected = images[i].transpose(1, 2, 0).astype(np.float64)
        if kind == "PNG":
            assert np.array_equal(pixels, expected)
        assert np.abs(pixels - expected).mean() < 5
        small, pixels = opened(found.picture(i, large=False))
        assert (small.format, small.size) == (kind, (thumb, thumb))
        reduced = np.asarray(Image.fromarray(images[i].transpose(1, 2, 0)).resize((thumb, thumb), Image.Resampling.BOX))
        assert np.abs(pixels - reduced).mean() < 5


def test_few_channels_are_grey_and_of_more_than_three_the_first_three_are_shown(tmp_path):
    for channels, mode in ((1, "L"), (2, "L"), (5, "RGB")):
        images, found = pictures(tmp_path / str(channels), 8, channels)
        image, pixels = opened(found.picture(5, large=True))
        assert image.mode == mode
        assert np.array_equal(pixels, images[5][:3].transpose(1, 2, 0) if channels == 5 else images[5][0])


def test_images_that_do_not_exist_are_user_errors_and_a_new_store_changes_no_picture(tmp_path):
    _, found = pictures(tmp_path, 8)
    before = [found.picture(i, large=False) for i in range(6)]
    for number in (-1, 6, 10**12):
        with pytest.raises(NotThereError, match=r"there are 6 images, from 0 on$"):
            found.picture(number, large=False)
    shutil.rmtree(tmp_path / "store")
    write_store(tmp_path / "store", {"train": np.zeros((6, 3, 8, 8), np.uint8)})
    assert [found.picture(i, large=False) for i in range(6)] == before
