from sslpipe.tools.yaml_text import laid_out, put, read_yaml


def test_a_file_that_is_read_and_written_again_gets_no_more_empty_lines(tmp_path):
    text = "seed: 0 # a comment\n\nprepare:\n  size: 32\n\n\nfeatures: {} # all defaults\n\nreport:\n  map: false\n"
    file = tmp_path / "params.yaml"
    for _ in range(2):
        file.write_text(text)
        tree = read_yaml(file)
        assert laid_out(tree) == text
        put(tree, "report.map", True)
        assert laid_out(tree) == text.replace("false", "true")
