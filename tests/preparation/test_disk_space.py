"""The disk that a store takes is compared with what is free before anything is decoded."""

import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from sslpipe.decoding import decode
from sslpipe.io.errors import UserError
from sslpipe.preparation.disk_space import check_space
from sslpipe.preparation.store_writer import Settings, write_store
from sslpipe.sources import folder

PIXELS = 3 * 224 * 224


def free(monkeypatch, size):
    def usage(path):
        assert path.exists()
        return SimpleNamespace(free=size)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_a_store_that_does_not_fit_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "decode_chunk", lambda *job: pytest.fail("decoded"))
    free(monkeypatch, 1000)
    for i in range(4):
        Image.new("RGB", (9, 9), (i, 0, 0)).save(tmp_path / f"{i}.png")
    source = folder.Source(folder.Settings(path=str(tmp_path)))
    with pytest.raises(UserError) as raised:
        write_store(
            *(tmp_path / "runs/out", source, Settings(size=10, channels=3)),
            **{"protocol": "split", "seed": 0, "workers": 1, "strict": False},
        )
    assert str(raised.value) == (
        f"{tmp_path / 'runs/out'}: 4 images take 1.2 kB, but 1.0 kB are free; set prepare.store: jpeg, lower "
        "prepare.size, or choose another disk with --out"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("size", "images", "jpeg", "line"),
    [
        (10**12, 5_000, False, ""),
        (10**12, 10_000, False, "prepare: 10,000 images take 1.5 GB of 1.0 TB that are free in "),
        (10**9, 1_000, False, "prepare: 1,000 images take 151 MB of 1.0 GB that are free in "),
        (10**12, 100_000, True, "prepare: 100,000 images take about 2.3 GB of 1.0 TB that are free in "),
    ],
)
def test_a_line_says_what_a_large_store_takes(tmp_path, monkeypatch, capsys, size, images, jpeg, line):
    free(monkeypatch, size)
    check_space(tmp_path / "not/there", images, PIXELS, jpeg=jpeg)
    assert capsys.readouterr().out == (line and f"{line}{tmp_path}\n")


def test_what_an_unfinished_run_left_counts_as_free(tmp_path, monkeypatch):
    free(monkeypatch, 5 * PIXELS)
    with pytest.raises(UserError):
        check_space(tmp_path / "out", 10, PIXELS, jpeg=False)
    (tmp_path / ".out.partial/train").mkdir(parents=True)
    (tmp_path / ".out.partial/train/images.npy").write_bytes(b"\0" * 5 * PIXELS)
    check_space(tmp_path / "out", 10, PIXELS, jpeg=False)
    with pytest.raises(UserError):
        check_space(tmp_path / "out", 11, PIXELS, jpeg=False)
