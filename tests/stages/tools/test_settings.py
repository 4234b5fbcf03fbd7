import json
from pathlib import Path


def test_prints_the_names_of_blocks_and_their_keys(at_once):
    code, out, _ = at_once("settings")
    assert code == 0
    assert {"network", "cluster.scan", "semisup.fixmatch", "prepare.folder"} <= set(out.split())
    code, out, _ = at_once("settings", "cluster.scan.entropy_weight")
    assert (code, out.splitlines()[0]) == (0, "cluster.scan.entropy_weight: 2.0")


def test_json_is_a_list_of_keys(at_once):
    found = json.loads(at_once("settings", "features", "--json")[1])
    assert all(row.keys() == {"key", "values", "default", "text"} for row in found)


def test_without_a_block_every_key_is_in_the_list_once(at_once):
    keys = [row["key"] for row in json.loads(at_once("settings", "--json")[1])]
    assert len(keys) == len(set(keys))
    assert {"cluster.clusters", "cluster.compare.judges", "cluster.scan.entropy_weight", "report.neighbors"} <= set(
        keys
    )


def test_an_unknown_block_is_one_line_with_the_nearest(refused):
    assert "did you mean 'cluster.scan'?" in refused("settings", "clutser.scan")
    assert "--yaml" in refused("settings", "features", "--json", "--yaml")
    assert "--schema: found together with --json" in refused("settings", "--json", "--schema")
    assert "--schema: found together with the block network" in refused("settings", "network", "--schema")


def test_the_schema_is_the_file_of_the_repository(at_once):
    code, out, _ = at_once("settings", "--schema")
    assert (code, out) == (0, Path(__file__).parents[3].joinpath("params.schema.json").read_text(encoding="utf-8"))
