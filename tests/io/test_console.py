from sslpipe.io import console


def test_plain_lines_tell_rate_and_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("work", 100, "images", done=20) as bar:
        now[0] += 20
        bar.advance(40, note="loss 1.5")
        now[0] += 1
        bar.advance(20)
        now[0] += 1
        bar.advance(20)
    first, last = capsys.readouterr().out.splitlines()
    assert first == "work: 60/100 images, 2.0/s, 20 s left  loss 1.5"
    assert last == "work: 100/100 images in 22.0 s, 3.6/s  loss 1.5"


def test_short_work_says_nothing(capsys):
    with console.progress("work", 1, "images") as bar:
        bar.advance()
    assert capsys.readouterr().out == ""


def test_without_a_title_nothing_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_LINE_SECONDS", 0.0)
    with console.progress("", 3, "images") as bar:
        bar.advance(3)
    assert capsys.readouterr().out == ""
