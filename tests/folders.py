"""Random folders of images, with the reading that was meant."""

import unicodedata

from hypothesis import strategies as st

from sslpipe.preparation.folder_layout import part_named

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and not part_named(name)
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
    return unicodedata.normalize("NFC", name).casefold()


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
