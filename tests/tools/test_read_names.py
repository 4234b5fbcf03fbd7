import pytest

from sslpipe.io.errors import UserError
from sslpipe.tools.cluster_names import check_names, read_names


@pytest.mark.parametrize(
    "content",
    [
        b"cluster,class\n0,cat\n3,dog\n",
        b"cluster,images,class\n0,7,cat\n1,9,\n3,2, dog \n\n",
        b"sep=;\r\nCluster;Class\r\n0;cat\r\n3;dog\r\n",
        "cluster\tclass\r\n0\tcat\r\n3\tdog\r\n".encode("utf-16"),
        b"\xef\xbb\xbfcluster,class,,\n0,cat,,\n3,dog,,\n,,,\n",
        b"cluster,label\ncluster 0,cat\ncluster 3,dog\n",
        b"cluster,name\n0.0,cat\n3.0,dog\n1\n",
        b"cluster,class\r0,cat\r3,dog\r0,cat\r",
    ],
)
def test_names_from_any_spreadsheet(tmp_path, content):
    (tmp_path / "names.csv").write_bytes(content)
    assert read_names(tmp_path / "names.csv") == {"cluster 0": "cat", "cluster 3": "dog"}


def test_names_in_windows_1252(tmp_path):
    (tmp_path / "names.csv").write_bytes("cluster;class\n0;Größe\n".encode("cp1252"))
    assert read_names(tmp_path / "names.csv") == {"cluster 0": "Größe"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": an empty file found, expected CSV"),
        (b"cluster,group\n0,cat\n", ": columns cluster, group found, expected cluster,class"),
        (b"0,cat\n1,dog\n", ": no header found, expected cluster,class in the first line"),
        (
            b"cluster,class,name\n0,cat,a\n",
            ": the columns 'class' and 'name' could each be the class; rename all but one",
        ),
        (
            b"cluster,class\n0,cat, black\n",
            " line 2: fields found: 3, expected 2: '0,cat, black'; put a text with commas",
        ),
        (b"cluster,class\n0,cat\nx,dog\n", " line 3: 'x' found, expected the number of a cluster"),
        (b"cluster,class\n0,cat\n0,dog\n", " line 3: cluster 0 has two classes, 'cat' and 'dog'"),
        (b'cluster,class\n0,"cat\n', " line 2: not readable as CSV: unexpected end of data"),
        (b"cluster,class\n0,cat\0\n", " line 2: NUL character found"),
        (b"PK\3\4", ": a workbook or a ZIP file found, expected CSV"),
    ],
)
def test_names_that_are_not_clear(tmp_path, content, message):
    path = tmp_path / "names.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_names(path)
    assert str(raised.value).startswith(f"--names: {path}{message}")
    assert "\n" not in str(raised.value)


def test_a_file_of_names_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"^--names: .*none.csv cannot be read: No such file or directory$"):
        read_names(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory$"):
        read_names(tmp_path)


@pytest.mark.parametrize("name", ["names.parquet", "names.jsonl", "names.csv", "tsv"])
def test_a_table_without_digests_is_of_any_model(tmp_path, name):
    """In every format that names are read from; the model need not have weights then."""
    path = tmp_path / name
    if name.endswith("parquet"):
        pq = pytest.importorskip("pyarrow.parquet")
        pa = pytest.importorskip("pyarrow")
        pq.write_table(pa.table({"cluster": list(range(2000)), "class": ['a\r,"b'] * 2000}), path)
    elif name.endswith("jsonl"):
        path.write_text('{"cluster": 0, "class": "a"}\n')
    else:
        path.write_bytes("cluster,class\n0,é\n".encode("utf-16"))
    check_names(path, read_names(path), len(read_names(path)), tmp_path)
