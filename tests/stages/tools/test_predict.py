import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits

from sslpipe.data.store import Store
from sslpipe.io.errors import UserError
from sslpipe.nets.model_file import load_model
from sslpipe.preparation.labels_file import FILE, LABEL, find_labels_files
from sslpipe.preparation.tables import Column, read_table
from stages.tools.predict import predict

OUT = Path("predictions.csv")


@pytest.fixture
def pictures(project):
    """20 digits as PNG files of their own size in sub-folders, and a broken one among them."""
    digits = load_digits()
    for place in range(20):
        path = Path("new") / f"group {place % 3}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(digits.images[place] * (255 / 16)).astype(np.uint8)).save(path)
    Path("new/group 1/broken.png").write_bytes(b"\x89PNG\r\n")
    return Path("new")


def rows(path=OUT):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "model", ["pretrain", "cluster", "self-label", "semisup/simmatch", "semisup/suave", "finetune/linear"]
)
def test_answers_are_those_of_the_model_for_the_same_pixels(pictures, model):
    predict(Path("runs", model), [pictures], neighbors=3)
    found = rows()
    assert len(found) == 21
    network, card = load_model(Path("runs", model))
    store = Store(Path("runs/prepare"))
    names = store.files("train")
    digits = load_digits().images
    for row in (row for row in found if not row["error"]):
        # Prepared from the same digit, as training images were.
        number = int(Path(row["file_name"]).stem)
        stored = {name: place for place, name in enumerate(names)}.get(f"digits:{number}")
        if stored is None:
            continue
        image = torch.from_numpy(np.array(store.images("train")[stored]))[None].float() / 255
        with torch.no_grad():
            features = network.eval().features(image)
        # The file went through the same decoding as the array that prepare had, so its own image is nearest.
        assert row["neighbor_1"] == f"digits:{number}"
        assert float(row["similarity_1"]) == pytest.approx(1, abs=1e-4)
        if model == "pretrain":
            assert "prediction" not in row
            continue
        with torch.no_grad():
            probability = network.head(features).softmax(dim=1)[0]
        output = int(probability.argmax())
        assert row["prediction"] == (card.classes[output] if card.classes else f"cluster {output}")
        assert float(row["confidence"]) == pytest.approx(float(probability[output]), abs=1e-4)
    assert digits.shape == (1797, 8, 8)


def test_broken_files_are_listed_and_the_rest_is_done(pictures, at_once):
    code, out, err = at_once("predict", "runs/self-label", pictures, "new/group 1/4.png", "--out", "sub/p.csv")
    assert (code, err) == (0, "")
    found = rows(Path("sub/p.csv"))
    assert [row["file_name"] for row in found][:2] == ["new/group 0/0.png", "new/group 0/3.png"]  # natural order
    assert found[-1]["file_name"] == "new/group 1/4.png"
    (broken,) = (row for row in found if row["error"])
    assert (broken["file_name"], broken["prediction"], broken["neighbor_1"]) == ("new/group 1/broken.png", "", "")
    assert "broken: new/group 1/broken.png" in out
    assert "sub/p.csv: 22 images, 1 of them broken" in out


def test_groups_may_be_given_names(pictures):
    Path("names.csv").write_text("cluster,class\n" + "".join(f"{i},name {i}\n" for i in range(9)))
    predict(Path("runs/cluster"), [pictures], names=Path("names.csv"), neighbors=0)
    answers = {row["prediction"] for row in rows() if not row["error"]}
    assert answers <= {*(f"name {i}" for i in range(9)), "cluster 9"}
    assert "neighbor_1" not in rows()[0]


def test_features_of_the_training_images_are_computed_once(pictures, capsys):
    predict(Path("runs/self-label"), [pictures])
    (kept,) = Path(".sslpipe/features").glob("*.npy")
    before = kept.stat().st_ino
    first = OUT.read_bytes()
    predict(Path("runs/self-label"), [pictures])
    assert (kept.stat().st_ino, OUT.read_bytes()) == (before, first)


def test_features_that_were_used_longest_ago_are_deleted(pictures):
    predict(Path("runs/self-label"), [pictures])
    (own,) = Path(".sslpipe/features").glob("*.npy")
    others = [own.with_name(f"{number}.npy") for number in range(1, 5)]
    for number, other in enumerate(others, 1):
        other.touch()
        os.utime(other, (number, number))
    os.utime(own, (0, 0))
    predict(Path("runs/self-label"), [pictures])  # reads its own, and writes none
    assert {own, *others} == set(Path(".sslpipe/features").glob("*.npy"))
    own.unlink()
    predict(Path("runs/self-label"), [pictures])
    assert {own, *others[1:]} == set(Path(".sslpipe/features").glob("*.npy"))


def test_stored_features_are_those_of_a_model_with_the_pretrained_backbone(pictures):
    """The test project's clusters are heads alone on the backbone."""
    predict(Path("runs/cluster"), [pictures])
    assert not list(Path(".sslpipe").glob("features/*.npy"))
    stored = rows()
    predict(Path("runs/cluster"), [pictures], featured=Path("elsewhere"))
    assert len(list(Path(".sslpipe").glob("features/*.npy"))) == 1
    for row, found in zip(rows(), stored, strict=True):
        if not row["error"]:
            assert found["neighbor_1"] == row["neighbor_1"]
            assert float(found["similarity_5"]) == pytest.approx(float(row["similarity_5"]), abs=2e-4)


def test_a_model_taken_elsewhere_answers_without_neighbours(pictures, capsys):
    predict(Path("runs/cluster"), [pictures], prepared=Path("elsewhere"))
    assert "no nearest training images are listed" in capsys.readouterr().out
    assert list(rows()[0]) == ["file_name", "prediction", "confidence", "error"]


def test_mistakes_are_one_line_and_leave_the_last_answers(pictures, refused):
    OUT.write_text("file,error\n")
    assert "runs/clusters/model.json: no such file" in refused("predict", "runs/clusters", pictures)
    assert "IMAGES: nowhere does not exist" in refused("predict", "runs/cluster", "nowhere")
    Path("empty").mkdir()
    assert "IMAGES: no image found in empty" in refused("predict", "runs/cluster", "empty")
    Path("names.csv").write_text("group,name\n")
    assert "columns group, name found, expected cluster,class" in refused(
        "predict", "runs/cluster", pictures, "--names", "names.csv"
    )
    info = json.loads(Path("runs/prepare/store.json").read_text())
    Path("runs/prepare/store.json").write_text(json.dumps({**info, "fingerprint": "0" * 64}))
    assert "run the stage that writes it again" in refused("predict", "runs/cluster", pictures)
    assert OUT.read_text() == "file,error\n"


@pytest.mark.parametrize("name", ["new/group 1/1.png", "notes.csv", "params.yaml", "names.csv", "runs"])
def test_only_predictions_are_overwritten(pictures, refused, name):
    Path("notes.csv").write_text("file,price\n1.png,3\n")
    Path("names.csv").write_text("cluster,class\n0,cat\n")
    before = Path(name).read_bytes() if Path(name).is_file() else None
    line = refused("predict", "runs/cluster", "new", "--out", name, "--names", "names.csv")
    assert line.startswith(f"error: --out: {name} ")
    assert Path(name).is_dir() or Path(name).read_bytes() == before


def test_earlier_predictions_are_overwritten(pictures):
    predict(Path("runs/cluster"), [pictures], neighbors=0)
    predict(Path("runs/pretrain"), [pictures], neighbors=2)
    predict(Path("runs/cluster"), [pictures], neighbors=0)
    assert rows()[0].keys() == {"file_name", "prediction", "confidence", "error"}


def test_parquet_has_the_same_predictions_with_types(pictures, at_once):
    """As metadata.parquet of the folder of images, whose file_name is relative to that folder."""
    predict(Path("runs/semisup/simmatch"), [pictures], neighbors=2)
    expected = rows()
    out = pictures / "metadata.parquet"
    for _ in range(2):  # earlier predictions are replaced, and are not taken for an image
        code, text, err = at_once(
            "predict", "runs/semisup/simmatch", pictures, "--neighbors", "2", "--out", out, "--sort-into", "sorted",
            "--review", "0",
        )  # fmt: skip
        assert (code, err) == (0, "")
        assert f"{out}: 21 images, 1 of them broken" in text
        assert len(list(Path("sorted").rglob("*.png"))) == 20
        shutil.rmtree("sorted")
    table = parquet.read_table(out)
    number, text = pyarrow.float32(), pyarrow.string()
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "file_name": text, "prediction": text, "confidence": number, "neighbor_1": text, "similarity_1": number,
        "neighbor_2": text, "similarity_2": number, "error": text,
    }  # fmt: skip
    assert table.schema.names == list(expected[0])
    for row, same in zip(table.to_pylist(), expected, strict=True):
        assert f"new/{row['file_name']}" == same["file_name"]
        assert (pictures / row["file_name"]).is_file()
        for name in ("prediction", "neighbor_1", "error"):
            assert (row[name] or "") == same[name]
        assert row["confidence"] is None or f"{row['confidence']:.4f}" == same["confidence"]
    assert [row["error"] is None for row in table.to_pylist()].count(False) == 1


def test_a_table_of_predictions_is_taken_as_labels_only_if_asked(pictures):
    """Beside the images it has the name of a labels file, but predictions are no labels."""
    predict(Path("runs/cluster"), [pictures], neighbors=0, out=pictures / "metadata.csv")
    (found,) = find_labels_files(pictures)
    with pytest.raises(UserError, match="columns file_name, prediction, confidence, error found, expected file,label"):
        read_table(found, str(found), FILE, LABEL)
    table = read_table(found, str(found), FILE, Column("prediction"))
    assert [key for _, key, _ in table.rows] == [row["file_name"] for row in rows(found)]


def test_another_suffix_and_a_missing_library_are_one_line(pictures, refused, monkeypatch):
    line = refused("predict", "runs/cluster", pictures, "--out", "predictions.txt")
    assert line == "error: --out: predictions.txt found, expected a name that ends in .csv or .parquet\n"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refused("predict", "runs/cluster", pictures, "--out", "p.parquet")
    assert line == "error: --out: p.parquet: pyarrow is not installed; pip install 'sslpipe[parquet]'\n"
    assert not Path("p.parquet").exists()


def test_a_project_that_cannot_be_written_to_keeps_no_features_and_says_so(pictures, tmp_path, capsys):
    shutil.rmtree(".sslpipe", ignore_errors=True)
    Path(".sslpipe").write_text("a file in the place of the folder of the cache")
    predict(Path("runs/self-label"), [pictures], neighbors=2, out=tmp_path / "out.csv")
    assert "cannot be written: Not a directory; the features of the training images are computed again" in (
        capsys.readouterr().out
    )
    assert rows(tmp_path / "out.csv")[0]["neighbor_1"]


def test_images_are_sorted_into_folders_of_their_prediction(pictures, at_once):
    code, out, err = at_once(
        "predict", "runs/semisup/simmatch", pictures, "--neighbors", "0", "--sort-into", "sorted", "--review", "1"
    )
    assert (code, err) == (0, "")
    good = [row for row in rows() if not row["error"]]
    placed = {path.name: path.parent.name for path in Path("sorted").rglob("*.png")}
    assert placed == {Path(row["file_name"]).name: row["prediction"] for row in good}
    assert f"{sum(float(row['confidence']) < 1 for row in good)} of 20 images with a confidence below 1" in out
    assert "sorted: 20 images copied into" in out


def test_mistakes_of_sorting_are_refused_before_any_work(pictures, refused):
    Path("full").mkdir()
    Path("full/file").touch()
    assert "full is not empty" in refused("predict", "runs/cluster", pictures, "--sort-into", "full")
    assert "--link: only with --sort-into" in refused("predict", "runs/cluster", pictures, "--link")
    assert "predicts neither classes nor clusters" in refused("predict", "runs/pretrain", pictures, "--review", "0.5")
    assert not OUT.exists()
