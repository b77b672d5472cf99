"""What is told of an edit: in words, as JSON, and read again only where it is what was written."""

import json

import pytest

from editable.editing import EditRecord, Harm

HARM = Harm("broken", 2, 300, 0.0123, 0.95, 0.02)
RECORD = EditRecord(
    ["a.png: cat → dog", "b.png: dog → cat"],
    {"editor": {"class_path": "editable.editing.GD"}},
    "300 test images",
    {"drawdown": 0.25},
    ["cat", "dog"],
    ["a.png", "b.png"],
    [1, 0],
    HARM,
    {"codebook": [0, 2]},
    "runs/a/config.yaml",
)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (HARM, "2 of 300 images broken, at most 1.23 % at a level of 95 %, allowed are 2 %"),
        (HARM._replace(number=None), "at most 1.23 % at a level of 95 %, allowed are 2 %"),
        (HARM._replace(budget=None, level=0.999), "2 of 300 images broken, at most 1.23 % at a level of 99.9 %"),
        (Harm("changed", 0, 7, 1.0, 0.5), "0 of 7 images changed, at most 100.00 % at a level of 50 %"),
    ],
)
def test_harm_in_words(harm: Harm, sentence: str) -> None:
    assert harm.sentence() == sentence


@pytest.mark.parametrize(
    ("made_by", "editor"),
    [
        ({"editor": {"class_path": "editable.editing.CodebookEditor"}}, "CodebookEditor"),
        ({"solver": {"class_path": "editable.rewriting.ClosedForm"}}, "ClosedForm"),
        ({"editor": "some.place.Own(rate=0.5)"}, "Own"),
        ("Own(rate=0.5)", "Own"),
        ({"editor": None}, "not said"),
        ({"rule": "GD"}, "not said"),
        (None, "not said"),
    ],
)
def test_who_has_made_it(made_by: object, editor: str) -> None:
    assert EditRecord(made_by=made_by).editor == editor


def test_what_was_asked_in_a_line() -> None:
    assert RECORD.sentence == "a.png: cat → dog; b.png: dog → cat"
    assert EditRecord().sentence == "it does not say what was asked"


@pytest.mark.parametrize("record", [RECORD, EditRecord(), EditRecord(harm=HARM._replace(number=None, budget=None))])
def test_it_comes_back_from_json(record: EditRecord) -> None:
    plain = json.loads(json.dumps(record.plain()))
    assert "classes" not in plain
    assert EditRecord.of_plain(plain, record.classes) == record


def test_figures_that_are_no_numbers_are_left_out() -> None:
    record = EditRecord(outcome={"a": 1, "b": float("nan"), "c": float("inf"), "d": -0.5})
    assert record.plain()["outcome"] == {"a": 1.0, "d": -0.5}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("asked", "cat"),
        ("asked", [1]),
        ("images", "ab"),
        ("images", ["a.png", 3]),
        ("measured_on", 300),
        ("measured_on", None),
        ("outcome", [0.25]),
        ("outcome", {"drawdown": "low"}),
        ("outcome", {"drawdown": True}),
        ("outcome", {"drawdown": float("inf")}),
        ("labels", [1]),
        ("labels", [1, 0, 0]),
        ("labels", [1, -1]),
        ("labels", [1, True]),
        ("labels", [1, 0.0]),
        ("labels", [1, 2**40]),
        ("labels", 1),
        ("rows", [0, 2]),
        ("rows", {"codebook": 0}),
        ("rows", {"codebook": [0, -1]}),
        ("config", 5),
        ("harm", []),
        ("harm", {}),
        *(
            ("harm", {**HARM._asdict(), part: value})
            for part, value in [
                ("counted", "hurt"),
                ("number", -1),
                ("number", 0.5),
                ("images", "300"),
                ("bound", None),
                ("bound", float("nan")),
                ("level", True),
                ("budget", "2 %"),
                ("more", 1),
            ]
        ),
        ("more", 1),
    ],
)
def test_a_field_of_another_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"a field is of another type|harm is not described|missing or unknown"):
        EditRecord.of_plain({**RECORD.plain(), field: value})


@pytest.mark.parametrize("name", RECORD.plain())
def test_a_field_that_is_missing_is_refused(name: str) -> None:
    content = RECORD.plain()
    del content[name]
    with pytest.raises(ValueError, match="fields are missing or unknown"):
        EditRecord.of_plain(content)


@pytest.mark.parametrize("classes", ["cat", [1, 2], {"cat": 1}])
def test_classes_that_are_no_names_are_refused(classes: object) -> None:
    with pytest.raises(ValueError, match="a field is of another type"):
        EditRecord.of_plain(RECORD.plain(), classes)


def test_labels_may_be_left_out_and_none_be_too_large() -> None:
    content = {**RECORD.plain(), "labels": []}
    assert EditRecord.of_plain(content).labels == []
    assert EditRecord.of_plain({**content, "labels": [0, 2**40 - 1]}).labels == [0, 2**40 - 1]


def test_other_rows_are_a_copy() -> None:
    rows = {"codebook": [1]}
    record = RECORD.with_rows(rows)
    rows["codebook"].append(2)
    assert record.rows == {"codebook": [1]}
    assert RECORD.rows == {"codebook": [0, 2]}
    assert record.with_rows(RECORD.rows) == RECORD
