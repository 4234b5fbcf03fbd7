import copy
import json
import math
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from sslpipe.io.errors import UserError
from sslpipe.io.params import siblings
from sslpipe.io.stages import SHARED_KEYS
from sslpipe.tools import recipes
from sslpipe.tools.recipes import (
    ABSENT,
    BLOCKS,
    comment_at,
    differences,
    load,
    names,
    text,
    written,
)
from stages.__main__ import app

sys.path.insert(0, str(Path(__file__).parent))
from recipe_runs import Pipeline, made_small, read

ROOT = Path(__file__).parents[2]
NAMES = names()
LOADED = {name: load(name) for name in NAMES}
TEXTS = {name: written(recipe) for name, recipe in LOADED.items()}
TREES = {name: yaml.load(shown, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) for name, shown in TEXTS.items()}
PUBLISHED = [name for name in NAMES if not name.endswith("-short") and not name.startswith(("own-images", "digits-"))]
CARD = "recipe: {title: T, aims_at: F, source: S}\n"
BASE = """# One line.
# Another one.
recipe: {title: Base, aims_at: acc 1, source: paper}

seed: 0 # of base
prepare: # block of base
  source: cifar10 # of base
  cifar10: {root: data, download: false} # line of base
  list: [1, 2] # list of base
evaluate: {} # of base
cluster:
  clusters: 10 # of base
  fit:
    lr: 1.0e-4 # of base
"""


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Write recipes into a folder of their own: name → text."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setattr(recipes, "folder", lambda: folder)

    def put(**files):
        for name, content in files.items():
            (folder / f"{name}.yaml").write_text(content)
        return folder

    return put


@pytest.fixture
def sslpipe(capsys):
    """Run the command line; exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            app([*map(str, arguments)])
        return ended.value.code or 0, *capsys.readouterr()

    return run


# Values and their comments


def test_a_recipe_alone_keeps_values_comments_and_its_head(shelf):
    shelf(base=BASE)
    recipe = load("base")
    assert recipe.head == ("One line.", "Another one.")
    assert recipe.card.title == "Base"
    assert comment_at(recipe.settings, "seed") == "of base"
    assert comment_at(recipe.settings["cluster"]["fit"], "lr") == "of base"
    assert comment_at(recipe.settings["cluster"], "fit") is None
    expected = yaml.safe_load(BASE)
    del expected["recipe"]
    assert yaml.safe_load(text("base")) == expected


def test_the_text_is_in_the_order_of_the_pipeline_and_says_what_it_is(shelf):
    shelf(
        other=BASE.replace("Base", "T").replace("acc 1", "F").replace("paper", "S")
        + "network: {name: tiny_resnet} # N\n"
    )
    lines = text("other").splitlines()
    assert lines[:5] == [
        "# T.",
        "# Aims at: F.",
        "# Source: S.",
        "# Recipe other.",
        "#",
    ]
    assert [line for line in lines if line and line[0].isalpha()] == [
        "seed: 0 # of base",
        "prepare: # block of base",
        "network: {name: tiny_resnet} # N",
        "cluster:",
        "evaluate: {} # of base",
    ]
    assert lines[lines.index("prepare: # block of base") - 1] == ""
    assert lines[lines.index("evaluate: {} # of base") - 1] == ""
    assert text("other").endswith("\n")
    assert not text("other").endswith("\n\n")


def test_differences_are_dotted_keys_with_both_values(shelf):
    other = """seed: 0
prepare: {source: cifar10, cifar10: {root: data, download: false}, list: [1, 3]}
evaluate: {restarts: 3}
cluster: {clusters: 10}
protocol: null
"""
    shelf(base=BASE, other=CARD + other)
    assert differences("base", "base") == {}
    assert list(differences("base", "other").items()) == [
        ("prepare.list", ([1, 2], [1, 3])),
        ("cluster.fit.lr", (1e-4, ABSENT)),
        ("evaluate", ({}, ABSENT)),
        ("protocol", (ABSENT, None)),
        ("evaluate.restarts", (ABSENT, 3)),
    ]
    assert set(differences("other", "base")) == set(differences("base", "other"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "null"), (True, "true"), ([0.2, None], "[0.2, null]"), (ABSENT, "-"), ({}, "{}"), (1e-4, "0.0001")],
)
def test_values_are_shown_as_in_a_params_file(value, shown):
    assert recipes.as_text(value) == shown


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": CARD}, "unknown name 'a'"),
        ({"a": CARD + "base: b\n", "b": CARD}, "a.yaml: base: unknown key"),
        ({"a": CARD + "clutser: {clusters: 3}\n"}, "a.yaml: clutser: unknown key; did you mean 'cluster'"),
        ({"a": "seed: 0\n"}, "a.yaml: recipe.title: missing"),
        ({"a": "recipe: {title: T, aims_at: F, source: S, year: 1}\n"}, "a.yaml: recipe.year: unknown key"),
        ({"a": "recipe: {\n"}, "a.yaml: not readable as YAML"),
        ({"a": CARD + "seed: 0\nseed: 1\n"}, "a.yaml: not readable as YAML"),
        ({"a": "- b\n"}, "a.yaml: expected a mapping"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_one_line(shelf, files, message):
    shelf(**files)
    with pytest.raises(UserError, match=message) as raised:
        load("a")
    assert "\n" not in str(raised.value)


def test_an_unknown_name_has_a_nearest_one():
    with pytest.raises(UserError, match="did you mean 'scan-cifar10'"):
        load("scan-cifar-10")
    for path in ("../params", "/etc/passwd", "", "scan-cifar10.yaml"):
        with pytest.raises(UserError, match="recipe: unknown name"):
            load(path)


def test_recipes_lie_beside_the_package_or_in_an_installed_one(tmp_path, monkeypatch):
    assert recipes.folder() == ROOT / "recipes"
    (tmp_path / "sslpipe" / "recipes").mkdir(parents=True)
    (tmp_path / "recipes").mkdir()  # of another project
    monkeypatch.setattr("sslpipe.__file__", str(tmp_path / "sslpipe" / "__init__.py"))
    assert recipes.folder() == tmp_path / "sslpipe" / "recipes"
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["recipes"] == "sslpipe/recipes"


# The command line


def test_list_shows_every_recipe(sslpipe):
    code, out, _ = sslpipe("recipe", "list")
    assert code == 0
    assert all(f" {name} " in out for name in NAMES)
    assert "acc 94.40 ± 1.37" in out


def used(path):
    """What `use` wrote, without the lines that only a project has."""
    head = "# yaml-language-server: $schema=params.schema.json\n"
    content = path.read_text()
    assert content.startswith(head)
    return re.sub(r"^sslpipe: .*\n", "", content.removeprefix(head), flags=re.MULTILINE)


def test_show_prints_what_use_writes(sslpipe, tmp_path):
    code, out, _ = sslpipe("recipe", "show", "simmatch-cifar100-400")
    assert code == 0
    assert out == text("simmatch-cifar100-400")
    assert sslpipe("recipe", "use", "simmatch-cifar100-400", tmp_path / "new")[0] == 0
    assert used(tmp_path / "new" / "params.yaml") == out
    stages = yaml.safe_load((tmp_path / "new" / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["prepare", "semisup", "evaluate", "report"]


def test_use_writes_over_nothing_unless_it_is_told_to(sslpipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = sslpipe("recipe", "use", "fixmatch-cifar10-40")
    assert code == 0
    assert out.startswith("fixmatch-cifar10-40: params.yaml, params.schema.json, dvc.yaml written in .")
    before = Path("params.yaml").read_text()
    code, out, err = sslpipe("recipe", "use", "scan-cifar10")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: params.yaml: already exists; overwrite it with --force")
    assert Path("params.yaml").read_text() == before
    assert sslpipe("recipe", "use", "scan-cifar10", "--force")[0] == 0
    assert used(Path("params.yaml")) == text("scan-cifar10")


def test_diff_shows_what_differs(sslpipe):
    code, out, _ = sslpipe("recipe", "diff", "suave-cifar100-400", "suave-cifar100-2500")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert (code, rows) == (0, [["prepare.labelled.per_class", "4", "25"]])
    code, out, _ = sslpipe("recipe", "diff", "scan-imagenet", "scan-imagenet50")
    assert "null" in out
    code, out, _ = sslpipe("recipe", "diff", "scan-cifar10", "scan-cifar10")
    assert (code, out) == (0, "scan-cifar10 and scan-cifar10 have the same settings\n")


@pytest.mark.parametrize("arguments", [["show", "scan"], ["use", "scan"], ["diff", "scan-cifar10", "scan"]])
def test_a_mistaken_name_is_one_line(sslpipe, arguments):
    code, out, err = sslpipe("recipe", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: recipe: unknown name 'scan'")


# The recipes that are shipped


def test_the_published_experiments_are_all_there():
    labels = {"cifar10": (40, 250, 4000), "cifar100": (400, 2500, 10000), "imagenet": ("1pct", "10pct")}
    expected = {f"scan-{data}" for data in ("cifar10", "cifar20", "stl10", "imagenet")}
    expected |= {f"scan-imagenet{classes}" for classes in (50, 100, 200)}
    expected |= {"scan-cifar10-rotnet", "scan-cifar10-feature-decoupling", "scan-cifar10-code", "scan-cifar20-code"}
    expected |= {f"scan-imagenet{classes}-code" for classes in ("", 50, 100, 200)}
    expected |= {f"simmatch-{data}-{count}" for data, counts in labels.items() for count in counts}
    expected |= {
        f"{m}-{data}-{n}" for m in ("suave", "daino") for data in ("cifar100", "imagenet") for n in labels[data]
    }
    expected |= {f"{method}-cifar10-{n}" for method in ("fixmatch", "mixmatch", "uda") for n in labels["cifar10"]}
    expected |= {f"alternation-{data}-{count}" for data in ("cifar10", "svhn") for count in (40, 250)}
    expected |= {"alternation-stl10", "alternation-cifar10-40-mixmatch", "alternation-cifar10-40-uda"}
    assert expected <= set(NAMES)


def content(name):
    """Lines of the head, and those below it without what is about the recipe."""
    lines = (recipes.folder() / f"{name}.yaml").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    kept, about = [], False
    for line in lines[start:]:
        about = line.startswith("recipe:") or (about and line.startswith(" "))
        if not about:
            kept.append(line)
    return lines[:start], kept


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_its_source_at_the_end_of_its_line(name):
    head, lines = content(name)
    assert len(head) >= 1
    for line in lines:
        assert len(line) <= 120
        assert not line.lstrip().startswith("#"), "a comment on a line of its own is lost on the way"
        opens_block = re.fullmatch(r" *\w+:", line)
        assert not line or opens_block or re.fullmatch(r" *\w+: \S.* # \S.*", line), line
    assert all(len(line) <= 120 for line in head)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_has_a_comment_on_every_line(name):
    for line in TEXTS[name].splitlines():
        assert not line or line.startswith("#") or line.endswith(":") or " # " in line, line
    # YAML 1.1, by which params.yaml is read, sees the values that YAML 1.2 sees.
    assert TREES[name] == json.loads(json.dumps(LOADED[name].settings))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_aims_at(name):
    recipe = LOADED[name]
    assert set(recipe.settings) <= set(BLOCKS)
    short = name.endswith("-short")
    assert ("short budget" in recipe.card.title) == short
    if name not in PUBLISHED:
        assert recipe.card.aims_at == "no published figure"
    else:
        assert re.search(r"\b(cluster_acc|acc) (over )?\d+", recipe.card.aims_at)


def test_no_two_recipes_are_equal():
    assert len({json.dumps(tree, sort_keys=True) for tree in TREES.values()}) == len(NAMES)
    assert len({recipe.card.title for recipe in LOADED.values()}) == len(NAMES)


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    """Name → its settings, parsed as the stages do."""
    folder, found = tmp_path_factory.mktemp("parsed"), {}
    for name, shown in TEXTS.items():
        (folder / f"{name}.yaml").write_text(shown)
        found[name] = read(folder / f"{name}.yaml")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_stages_take_a_recipe_and_it_runs_what_it_states(parsed, name):
    found = parsed[name]
    tree = found.tree
    assert {"seed", "protocol", "prepare", "network", "evaluate"} <= set(tree)
    # One source, one pretext task, and those methods that run: nothing is left over from a base.
    assert [key for key in tree["prepare"] if key in siblings("sslpipe.sources")] == [found.prepare.source]
    for stage in {"pretrain", "cluster", "self_label"} & set(tree):
        assert set(tree[stage]) == {"method", *SHARED_KEYS.get(stage, ()), tree[stage]["method"]}
    for stage, methods in found.methods.items():
        assert set(tree.get(stage, {})) == ({"methods", *methods} if methods else set())
        assert all(set(tree[stage]["methods"][method]) == {"start"} for method in methods)
    folders = {"prepare", "pretrain", "cluster", "self-label"} & {stage.replace("_", "-") for stage in tree}
    folders |= {f"semisup/{method}" for method in found.methods["semisup"]}
    assert {chosen.entry.start for methods in found.methods.values() for chosen in methods.values()} <= folders
    assert found.cluster or any(found.methods.values())
    if found.cluster:
        assert found.pretrain
        assert found.cluster.settings.neighbors <= found.mining.k
        assert (found.self_label, found.prepare.held_out > 0) != (None, False)
    if "labelled" in tree["prepare"]:
        assert any(found.methods.values())


@pytest.mark.parametrize(
    "name", [name for name in PUBLISHED if TREES[name].get("pretrain", {}).get("method") == "frozen"]
)
def test_batch_norms_of_published_weights_are_trained_as_the_authors_did(name):
    """The default keeps the statistics of published weights, which none of the papers does."""
    tree = TREES[name]
    labelled = [
        stage[method]
        for stage in (tree.get("semisup", {}), tree.get("finetune", {}))
        for method in stage.get("methods", {})
    ]
    blocks = [block.get("backbone", {}) for block in labelled]
    blocks += [stage["confident"] for stage in [tree.get("self_label", {})] if stage.get("method") == "confident"]
    assert [block.get("statistics") for block in blocks] == ["batch"] * len(blocks)


@pytest.mark.parametrize("name", PUBLISHED)
def test_labels_are_those_of_the_name(parsed, name):
    prepare = parsed[name].prepare
    classes = {"cifar10": 10, "cifar100": 100, "svhn": 10}
    if counted := re.match(r"\w+-(cifar10|cifar100|svhn)-(\d+)", name):
        data, labels = counted.groups()
        assert prepare.labelled.per_class * classes[data] == int(labels)
    elif percent := re.search(r"(\d+)pct", name):
        share = int(percent[1]) / 100
        fraction = prepare.labelled.fraction or prepare.labelled.per_class / 1281
        assert fraction == pytest.approx(share, rel=0.02)
    else:
        assert prepare.labelled is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_test_images_are_the_centre_of_larger_ones_on_imagenet_alone(parsed, name):
    found = parsed[name]
    if found.prepare.source == "imagenet":
        assert (found.prepare.size, found.backbone.side) == (256, 224)
    else:
        assert found.backbone.side is None


def test_an_unknown_key_is_refused(tmp_path):
    for key, place in (("semisup.fixmatch.treshold", "threshold"), ("prepare.sise", "size"), ("network.stam", "stem")):
        path = tmp_path / "params.yaml"
        path.write_text(text("fixmatch-cifar10-40"))
        tree = yaml.safe_load(path.read_text())
        *blocks, last = key.split(".")
        block = tree
        for each in blocks:
            block = block[each]
        block[last] = 1
        path.write_text(yaml.safe_dump(tree))
        with pytest.raises(UserError, match=f"{key}: unknown key; did you mean '{place}'"):
            read(path)


def built_alike(tree):
    """What depends on the networks and on the course of a batch, and little else."""
    tree = copy.deepcopy({key: tree[key] for key in BLOCKS[3:-1] if key in tree} | {"size": tree["prepare"]["size"]})
    without(tree, {"fit", "clusters", "entropy_weight", "warmup_epochs", "ssl_epochs", "mine_neighbors"})
    return json.dumps(tree, sort_keys=True)


def without(tree, keys):
    for key in list(tree):
        if key in keys:
            del tree[key]
        elif isinstance(tree[key], dict):
            without(tree[key], keys)


BUILT = {built_alike(TREES[name]): name for name in reversed(NAMES)}


@pytest.fixture(scope="module")
def done():
    """What took a batch in earlier tests."""
    return set()


@pytest.mark.parametrize("name", sorted(BUILT.values()))
def test_every_method_of_a_recipe_is_built_and_takes_a_batch(name, done, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(made_small(TREES[name])))
    losses = Pipeline(read(path), done).run()
    assert all(math.isfinite(loss) for loss in losses.values()), losses
