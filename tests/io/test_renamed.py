from dataclasses import fields

import pytest

from sslpipe.io.errors import UserError
from sslpipe.io.params import Params
from sslpipe.io.renamed import MOVED
from sslpipe.io.settings import parse
from sslpipe.io.stages import SHARED_KEYS
from sslpipe.methods.cluster import scan
from sslpipe.methods.pretrain import byol, swav
from sslpipe.methods.self_label import confident
from sslpipe.methods.semisup import daino, fixmatch, simmatch, suave
from sslpipe.nets.network import BackboneSettings
from sslpipe.running.starts import Entry


@pytest.mark.parametrize(
    ("module", "key", "value", "new"),
    [
        (fixmatch, "head", "fitted", "head_init"),
        (fixmatch, "over", "batch", "normalize_by"),
        (fixmatch, "decay", 0.99, "ema_decay"),
        (suave, "projection", "kept", "projection_init"),
        (simmatch, "smoothing", 0.9, "propagation_alpha"),
        (daino, "final_decay", 1.0, "final_ema_decay"),
        (confident, "rise", 0.01, "min_delta"),
        (byol, "momentum", 0.9, "ema_decay"),
        (swav, "crops", {}, "global_views"),
    ],
)
def test_an_old_key_is_one_line_that_names_the_new_one(module, key, value, new):
    with pytest.raises(UserError, match=rf"^block.{key}: unknown key; renamed to {new} in 0.2.0[^\n]*$"):
        parse(module.Settings, {key: value}, where="block")


def test_a_removed_value_is_one_line_that_names_what_takes_its_place():
    with pytest.raises(UserError, match=r"^network.name: unknown value 'torchvision'; removed in 0.2.0: .*tv_in1k$"):
        parse(BackboneSettings, {"name": "torchvision", "architecture": "resnet50"}, where="network")


@pytest.mark.parametrize("key", ["base", "objective"])
def test_a_key_of_the_list_of_methods_that_was_removed_says_so(key):
    with pytest.raises(UserError, match=f"semisup.methods.suave.{key}: unknown key; removed in 0.2.0, delete it"):
        parse(Entry, {"start": "pretrain", key: "supervised"}, where="semisup.methods.suave")


def test_the_watch_key_of_pretrain_was_removed(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("pretrain: {method: simclr, watch: held_out}")
    with pytest.raises(UserError, match=r"pretrain\.watch: unknown key; removed in 0\.2\.0"):
        Params(path).method("pretrain", "sslpipe.methods.pretrain")


@pytest.mark.parametrize(
    ("block", "key", "new"),
    [
        ("cluster", "heads", "cluster.scan.heads"),
        ("cluster", "head_by", "cluster.scan.select_head_by"),
        ("cluster", "fit", "cluster.scan.fit"),
        ("self_label", "threshold", "self_label.confident.threshold"),
        ("self_label", "rise", "self_label.confident.min_delta"),
    ],
)
def test_a_key_that_is_now_in_the_block_of_the_method_says_where(block, key, new, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(f"{block}: {{{key}: 1}}")
    package = f"sslpipe.methods.{block}"
    line = rf"^{block}\.{key}: unknown key; moved to {new} in 0\.4\.0$"
    with pytest.raises(UserError, match=line):
        Params(path).method(block, package)
    with pytest.raises(UserError, match=line):
        Params(path).check_stages({block: package})


@pytest.mark.parametrize(("block", "module"), [("cluster", scan), ("self_label", confident)])
def test_every_old_key_is_one_of_the_methods(block, module):
    names = {field.name for field in fields(module.Settings)}
    assert set(MOVED[block][1]) <= names - set(SHARED_KEYS.get(block, ()))


def test_a_key_that_never_existed_has_no_such_hint():
    with pytest.raises(UserError, match=r"block\.thresold: unknown key; did you mean 'threshold'") as error:
        parse(fixmatch.Settings, {"thresold": 0.9}, where="block")
    assert "0.2.0" not in str(error.value)


def test_a_removed_key_is_named_only_where_it_was():
    with pytest.raises(UserError, match=r"block\.base: unknown key") as error:
        parse(fixmatch.Settings, {"base": "supervised"}, where="block")
    assert "0.2.0" not in str(error.value)
