"""Names of classes that are spelled alike, such as Cat and cat."""

import unicodedata


def plain(name: str) -> str:
    """Return a name in NFC, without invisible characters, and with one blank where it has several."""
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return _composed(" ".join(visible.split()))


def difference(name: str, other: str) -> str:
    """Return how the names of two classes differ if they are spelled alike, such as "case only"; else ""."""
    if spelling(name) != spelling(other) or name == other:
        return ""
    for how, form in (("case", str.lower), ("Unicode form", _composed), ("case or Unicode form", _folded)):
        if form(name) == form(other):
            return f"{how} only"
    return "blanks, zeros or invisible characters only"


def spelling(name: str) -> str:
    """Return a key that names share that differ only in case, Unicode form, blanks, or zeros before a number."""
    text = _folded(plain(name))
    return text.lstrip("0") if text.isascii() and text.isdigit() else text


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(_composed(name).casefold())
