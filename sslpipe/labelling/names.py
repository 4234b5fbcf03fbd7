"""What may be the name of a class, so that the tables which carry it can be read again."""

from collections.abc import Collection

from sslpipe.labelling.errors import RefusedError
from sslpipe.preparation.class_names import plain
from sslpipe.preparation.labels_file import NO_LABEL_SETTING, label_problem, label_spelling

LONGEST = 200
"""Most characters of a name (own choice)."""


def class_name(text: str, classes: Collection[str], no_label: Collection[str]) -> str:
    """Return the name that a person means by a text: one of the classes if it is spelled alike, such as Cat for cat.

    no_label: texts that mean, in a table, that an image has no label. Raises RefusedError for a text that cannot be the
    name of a class.
    """
    name = plain(text)
    if not name:
        raise RefusedError("a class needs a name")
    if len(name) > LONGEST:
        raise RefusedError(f"a name of {len(name):,} characters found, expected at most {LONGEST}")
    if problem := label_problem(name):
        raise RefusedError(f"‘{name}’ {problem}")
    if name in no_label:
        raise RefusedError(f"‘{name}’ means, in tables, that an image has no label ({NO_LABEL_SETTING})")
    if name in classes:
        return name
    spelled = {label_spelling(other): other for other in classes}
    return spelled.get(label_spelling(name), name)
