"""Random folders of images, with the reading that was meant."""

import re
import unicodedata

from hypothesis import strategies as st

from sslpipe.preparation.class_folders import ANY_CLASS_WORDS
from sslpipe.preparation.part_names import PART_WORDS, words_of

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and not {*words_of(name)} & {*PART_WORDS, *ANY_CLASS_WORDS}
)
TRAIN, TEST, VAL = (
    st.sampled_from(names)
    for names in (
        ("train", "Training", "TRAIN_SET"),
        ("test", "Testing", "test images"),
        ("val", "Valid", "validation"),
    )
)


def key(name):
    visible = "".join(each for each in name if unicodedata.category(each) != "Cf")
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold())
    return re.sub("^0+([0-9]*)$", r"\1", " ".join(folded.split()))


@st.composite
def folders(draw):
    """Names of images, and their parts and classes; None if the folder is doubtful and has to be refused."""
    classes = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
    wrapper = "".join(f"{name}/" for name in draw(st.lists(NAMES, max_size=2)))
    deep = draw(st.sampled_from(["", "more/", "more/still/"]))
    doubtful = len({key(name) for name in classes}) < len(classes)
    if draw(st.booleans()):
        expected = {f"{wrapper}{name}/{deep}{i}.png": (None, name) for name in classes for i in range(2)}
        stray = draw(st.booleans())
        if stray:
            expected[f"{wrapper}stray.png"] = (None, None)
        return expected, doubtful or stray
    expected, inner = {}, draw(st.sampled_from(["", "images/", "data/set/"]))
    for part, name in (("train", draw(TRAIN)), ("test", draw(TEST)), ("held_out", draw(VAL))):
        has = classes if part == "train" else draw(st.lists(st.sampled_from(classes), unique=True))
        if len(has) == 1:
            inner = ""
        expected |= {f"{wrapper}{name}/{inner}{each}/{deep}1.png": (part, each) for each in has}
    extra = draw(st.sampled_from([None, None, "other/1.png", "loose.png"]))
    if extra:
        expected[wrapper + extra] = (None, None)
    return expected, doubtful or extra is not None
