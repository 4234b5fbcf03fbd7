"""Groups and labels as actions change them: examples by hand, and what holds for any actions."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.labelling.actions import (
    Answer,
    Confirm,
    Edit,
    Merge,
    Move,
    Name,
    Rename,
    Split,
    from_entry,
    from_request,
    to_entry,
)
from sslpipe.labelling.errors import NotThereError, RefusedError
from sslpipe.labelling.label_tables import cluster_names, difference, held_back, label_rows
from sslpipe.labelling.results import advice
from sslpipe.labelling.state import ASIDE, LabelState
from sslpipe.preparation.questions_file import Row
from sslpipe.tools.ask_rows import last_number

FILES = [f"{i}.png" for i in range(10)]  # 8 training images, 2 held-out ones


def fresh(rows=(), fixed=None):
    known = {row.file: row for row in rows}
    return LabelState(FILES, np.array([0, 0, 0, 1, 1, 1, 2, 2]), known, last_number(known), fixed or {})


def after(*actions, rows=(), fixed=None):
    state = fresh(rows, fixed)
    for action in actions:
        state.apply(action)
    return state


def table(state):
    return {row.file: row.label for row in label_rows(state)}


def test_a_name_alone_labels_no_image():
    state = after(Name(0, "cat"))
    assert state.labels() == {}
    assert cluster_names(state) == {0: "cat"}
    assert state.classes() == ["cat"]


def test_moved_and_confirmed_images_follow_the_name_of_their_group():
    state = after(Move((3,), 0), Name(0, "cat"), Confirm((0, 1), 0), Name(0, "dog"))
    assert table(state) == {"3.png": "dog", "0.png": "dog", "1.png": "dog"}
    assert [state.how(image) for image in (3, 0, 2)] == ["move", "confirm", None]
    assert state.apply(Name(0, "")) == "3 labels of this group wait for its name"
    assert table(state) == {}


def test_an_answer_stays_what_it_was_when_a_group_is_renamed_and_changes_with_its_class():
    state = after(Name(0, "caat"), Answer(0, "caat"))
    assert state.apply(Name(0, "cat")) == "1 image still labelled ‘caat’; rename the class to change these too"
    assert state.labels() == {0: "caat"}
    state.apply(Rename("caat", "cat"))
    assert state.labels() == {0: "cat"}
    assert state.classes() == ["cat"]


def test_an_answer_moves_the_image_to_the_group_of_that_class_if_its_own_has_another_name():
    state = after(Name(0, "cat"), Name(1, "dog"), Answer(0, "dog"), Answer(6, "dog"), Answer(1, "cow"))
    assert state.group[[0, 6, 1]].tolist() == [1, 2, 0]
    assert cluster_names(state) == {0: "cat", 1: "dog"}  # what became of the clusters is not what became of images


def test_confirming_leaves_images_with_another_label_and_those_that_have_left():
    state = after(Name(0, "cat"), Answer(0, "ox"), Move((1,), 1))
    assert state.apply(Confirm((0, 1, 2), 0)) == "1 no longer in this group; 1 with another label, which they keep"
    assert state.labels() == {0: "ox", 2: "cat"}
    with pytest.raises(RefusedError, match="no name"):
        state.apply(Confirm((6,), 2))


def test_images_set_aside_lose_the_label_of_the_group_and_keep_an_answer():
    state = after(Name(0, "cat"), Confirm((0,), 0), Answer(1, "ox"), Move((0, 1, 2), None))
    assert state.labels() == {1: "ox"}
    assert state.members(ASIDE).tolist() == [0, 1, 2]
    assert cluster_names(state) == {0: "cat"}


def test_merged_groups_have_one_name_and_their_clusters_as_well():
    state = after(Name(0, "cat"), Name(1, "dog"), Confirm((3,), 1))
    assert state.apply(Merge(1, 0)) == "both are called ‘cat’ now, the second no longer ‘dog’"
    assert state.labels() == {3: "cat"}
    assert cluster_names(state) == {0: "cat", 1: "cat"}
    assert state.codes[0] == "0 + 1"
    with pytest.raises(NotThereError):
        state.apply(Name(1, "dog"))
    assert after(Name(1, "dog"), Merge(1, 0)).groups[0] == "dog"


def test_parts_of_a_split_group_keep_the_name_until_they_get_their_own():
    state = after(Name(0, "cat"), Confirm((0, 1), 0), Split(0, (1, 2)))
    assert state.labels() == {0: "cat", 1: "cat"}
    state.apply(Name(3, "lynx"))
    assert state.labels() == {0: "cat", 1: "lynx"}
    assert cluster_names(state) == {0: "cat / lynx"}
    assert state.codes[3] == "0b"
    state.apply(Split(0, (0,)))
    assert state.codes[4] == "0c"
    with pytest.raises(RefusedError):
        state.apply(Split(1, (0,)))


def test_an_unsure_answer_is_no_label_and_a_later_label_takes_its_place():
    state = after(Answer(0, None, "unsure"), Answer(1, None, "none"))
    assert state.skipped == {0: "unsure", 1: "none"}
    assert state.asked == 2
    assert state.labels() == {}
    state.apply(Answer(0, "cat"))
    assert state.skipped == {1: "none"}
    assert state.asked == 2


def test_a_label_of_before_is_kept_in_the_column_before_and_an_asked_one_keeps_its_own():
    rows = [Row("0.png", "cat"), Row("1.png", "cat", "7", "why", "2", "dog"), Row("test.png", "cow")]
    state = after(Answer(0, "ox", reason="check"), Answer(1, "ox"), rows=rows)
    found = {row.file: row for row in label_rows(state)}
    assert (found["0.png"].before, found["1.png"].before) == ("cat", "dog")
    assert found["0.png"].reason == "check"
    assert found["test.png"] == rows[2]


def test_a_renamed_class_keeps_the_old_name_as_that_of_before_so_that_no_image_changes_its_split():
    state = after(Rename("cat", "kitten"), rows=[Row("0.png", "cat"), Row("1.png", "dog")])
    found = {row.file: row for row in label_rows(state)}
    assert (found["0.png"].label, found["0.png"].before) == ("kitten", "cat")
    assert found["0.png"].question
    assert not found["1.png"].question


def test_a_class_that_only_held_out_images_have_waits_for_a_training_image():
    state = after(Answer(8, "ship"))
    assert held_back(state) == [8]
    assert table(state) == {}
    state.apply(Answer(0, "ship"))
    assert table(state) == {"8.png": "ship", "0.png": "ship"}


def test_what_another_program_wrote_is_a_label_and_what_it_removed_is_none():
    rows = [Row("0.png", "cat"), Row("test.png", "cow")]
    state = after(Answer(1, "dog"), rows=rows)
    before = {row.file: row for row in label_rows(state)}
    edit = difference(before, {"0.png": Row("0.png", "ox"), "other.png": Row("other.png", "yak")})
    state.apply(edit)
    assert table(state) == {"0.png": "ox", "other.png": "yak"}
    assert difference({row.file: row for row in label_rows(state)}, before).rows


def test_the_classes_of_a_classifier_cannot_be_renamed_but_images_can_move():
    state = after(fixed={0: "cat", 1: "dog", 2: "cow"})
    for action in (Name(0, "x"), Merge(0, 1), Split(0, (0,)), Rename("cat", "x")):
        with pytest.raises(RefusedError):
            state.apply(action)
    state.apply(Move((0,), 1))
    assert state.labels() == {0: "dog"}


@pytest.mark.parametrize(
    "action",
    [Name(9, "x"), Merge(0, 9), Move((0,), 9), Move((8,), 0), Confirm((99,), 0), Answer(10, "x"), Answer(-1, "x")],
)
def test_what_is_not_there_changes_nothing(action):
    state = after(Name(0, "cat"), Confirm((0,), 0))
    before = copy.deepcopy(state.__dict__)
    with pytest.raises(NotThereError):
        state.apply(action)
    assert all(np.array_equal(before[name], value) for name, value in state.__dict__.items())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"do": "edit", "rows": []},
        {"do": "name", "group": "1", "name": "x"},
        {"do": "name", "group": True, "name": "x"},
        {"do": "name", "group": 1},
        {"do": "move", "images": [], "group": 1},
        {"do": "move", "images": [1, "2"], "group": 1},
        {"do": "answer", "image": 1, "label": None},
        {"do": "answer", "image": 1, "label": "x", "why": "unsure"},
        {"do": ["name"]},
    ],
)
def test_a_request_of_another_form_is_refused(body):
    with pytest.raises(RefusedError):
        from_request(body)


names = st.sampled_from(["cat", "dog", "cow", ""])
groups = st.integers(0, 5)
train = st.integers(0, 7)
several = st.lists(train, min_size=1, max_size=4, unique=True).map(tuple)
anything = st.one_of(
    st.builds(Name, groups, names),
    st.builds(Merge, groups, groups),
    st.builds(Split, groups, several),
    st.builds(Move, several, st.none() | groups),
    st.builds(Confirm, several, groups),
    st.builds(Answer, st.integers(0, 9), st.sampled_from(["cat", "dog", "ox"])),
    st.builds(Answer, st.integers(0, 9), st.none(), st.sampled_from(["none", "unsure"])),
    st.builds(Rename, st.sampled_from(["cat", "dog"]), st.sampled_from(["cat", "fox"])),
    st.builds(lambda file, label: Edit((Row(file, label),)), st.sampled_from(FILES), st.sampled_from(["cat", ""])),
)


@given(st.lists(anything, max_size=30))
def test_any_actions(actions):
    rows = [Row("0.png", "cat"), Row("9.png", "dog"), Row("3.png", "dog", "4", "why", "", "cat")]
    state, done = fresh(rows), []
    for action in actions:
        try:
            state.apply(action)
        except (NotThereError, RefusedError):
            continue
        done.append(to_entry(action, FILES))
    again = fresh(rows)
    for entry in done:
        again.apply(from_entry(entry, again.place))
    assert label_rows(again) == label_rows(state)
    assert again.groups == state.groups
    # Each training image is in one group that is there, or aside, and the clusters' parts are groups that are there.
    assert set(state.group.tolist()) <= {*state.groups, ASIDE}
    assert set(state.part.tolist()) <= set(state.groups)
    assert set(state.codes) == set(state.groups) <= set(state.root)
    assert len(set(state.codes.values())) == len(state.codes)
    # The table has each label once, with the class that the page shows, and says by which label its split was drawn.
    labels = {FILES[image]: label for image, label in state.labels().items() if image not in held_back(state)}
    assert table(state) == labels
    assert len(label_rows(state)) == len(labels)
    first = {row.file: row.before if row.question else row.label for row in rows}
    drawn = {row.file: row.before if row.question else row.label for row in label_rows(state)}
    assert all(drawn[file] == first.get(file, "") for file in drawn)
    numbers = [row.question for row in label_rows(state) if row.question]
    assert len(numbers) == len(set(numbers))
    assert all((state.how(image) is None) == (state.label(image) is None) for image in range(10))


def test_few_labels_come_with_the_advice_that_names_may_be_better():
    named = [Name(0, "cat"), Name(1, "dog")]
    assert advice(after(Answer(0, "cat"), Answer(3, "dog"))) is None  # no group has a name
    state = after(*named, Answer(0, "cat"), Answer(3, "dog"))
    assert advice(state).startswith("2 labels of training images, classes: 2; with fewer than 5 a class")
    assert "answers" not in advice(state)
    assert advice(after(*named, *(Answer(i, "cat") for i in range(5)))) is None
    asked = after(*named, *(Answer(i, "dog" if i == 1 else "ox" if i < 2 else "cow") for i in range(8)))
    assert "are right for" not in advice(asked)
