from dataclasses import dataclass

import pytest

from sslpipe.io.errors import UserError
from sslpipe.io.params import Params, find_module, siblings
from sslpipe.io.stages import TRAINING_STAGES, key_of
from sslpipe.methods.cluster import scan

PACKAGE = "sslpipe.methods.pretrain"


@dataclass(frozen=True, kw_only=True)
class Mining:
    k: int = 20


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 3\nmine:\n  k: 5\npretrain:\n  method: simclr\n  simclr:\nflat: 1\n")
    return Params(path)


def test_reads_blocks_and_the_seed(project):
    assert project.seed == 3
    assert project.parse(Mining, "mine").k == 5
    assert project.parse(Mining, "absent").k == 20


def test_options_replace_values_and_say_so(project, capsys):
    project.override({"seed": 7, "mine.k": None}, ["k=9", "pretrain.simclr.fit.epochs=2"], stage="mine")
    assert (project.seed, project.parse(Mining, "mine").k) == (7, 9)
    assert project.tree["pretrain"]["simclr"] == {"fit": {"epochs": 2}}
    said = capsys.readouterr().out
    assert "seed = 7  (option;" in said
    assert "mine.k = 9  (option;" in said
    assert ": 5)" in said


@pytest.mark.parametrize(
    ("assignment", "message"),
    [("k", "expected key=value"), ("flat.deep=1", "'flat' is a value"), ("k=[", "not readable as YAML")],
)
def test_bad_assignments_are_named(project, assignment, message):
    with pytest.raises(UserError, match=message):
        project.override({}, [assignment], stage="mine")


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", "true"])
def test_a_seed_is_a_whole_number(project, seed):
    project.override({}, [f"seed={seed}"])
    with pytest.raises(UserError, match=r"seed: .* expected a whole number"):
        _ = project.seed


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not readable as YAML"), ("- 1\n", "expected a mapping"), ("\xff", "YAML|mapping")]
)
def test_unreadable_settings_are_one_line(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=message) as error:
        Params(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Params(tmp_path / "params.yaml")


def test_methods_are_found_by_name_and_the_error_lists_them(project):
    assert project.method("pretrain", PACKAGE) == "simclr"
    assert {"simclr", "nce"} <= set(siblings(PACKAGE))
    assert find_module(PACKAGE, "nce", where="x").__name__ == f"{PACKAGE}.nce"
    with pytest.raises(
        UserError, match=r"pretrain.method: unknown name 'simclrr'; did you mean 'simclr'\?; known: .*nce"
    ):
        find_module(PACKAGE, "simclrr", where="pretrain.method")


def test_a_stage_with_methods_holds_nothing_else(project):
    project.override({"pretrain.epochs": 3})
    with pytest.raises(UserError, match=r"pretrain\.epochs: unknown key"):
        project.method("pretrain", PACKAGE)


def clustering(tmp_path, text):
    """The settings of SCAN in a file."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return Params(path).parse_method(scan.Settings, "cluster", "scan")


def test_a_key_that_all_methods_share_is_a_field_of_each(tmp_path):
    settings = clustering(tmp_path, "cluster: {method: scan, clusters: 7, scan: {heads: 3}}")
    assert (settings.clusters, settings.heads) == (7, 3)
    assert clustering(tmp_path, "cluster: {method: scan, clusters: 7}").clusters == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clusters: 7, scan: {clusters: 7}", r"cluster\.scan\.clusters: unknown key; set cluster\.clusters, which all"),
        ("scan: {heads: 3}", r"^cluster\.clusters: missing, expected a whole number at least 2$"),
        ("clusters: 1", r"^cluster\.clusters: 1 is out of range, expected at least 2$"),
        ("clusters: many", r"^cluster\.clusters: 'many' found, expected a whole number"),
        ("clusters: 7, scan: {heads: 0}", r"^cluster\.scan\.heads: 0 is out of range"),
    ],
)
def test_mistakes_in_shared_keys_name_the_key_as_it_is_written(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        clustering(tmp_path, f"cluster: {{method: scan, {text}}}")


def test_a_stage_without_the_name_of_its_method_is_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("cluster: {clusters: 10}")
    with pytest.raises(UserError, match=r"^cluster\.method: missing, expected one of .*\bscan\b"):
        Params(path).method("cluster", "sslpipe.methods.cluster")


def test_a_key_that_a_block_has_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 0\ncluster:\n  clusters: 10\n  heads: 2\n  clusters: 5\n")
    with pytest.raises(UserError, match=r"not readable as YAML: the key clusters is there twice .*line 5") as error:
        Params(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretain: {}", "pretain: unknown key; did you mean 'pretrain'"),
        ("pretrain: {method: simclr, epochs: 2}", r"pretrain\.epochs: unknown key"),
        (
            "semisup: {methods: {}, simmatch: {}, mixmach: {}}",
            r"semisup\.mixmach: unknown key; did you mean",
        ),
        ("cluster: {method: scan, clusters: 10, scna: {}}", r"cluster\.scna: unknown key; did you mean 'scan'"),
        ("self_label: {method: confident, clusters: 10}", r"self_label\.clusters: unknown key"),
        ("epochs: 2", "epochs: unknown key"),
    ],
)
def test_a_key_that_no_stage_reads_is_refused(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    packages = {stage: f"sslpipe.methods.{stage}" for stage in map(key_of, TRAINING_STAGES)}
    with pytest.raises(UserError, match=message):
        Params(path).check_stages(packages)
