"""The classes of a deployed network: a list, a text file, or a configuration of Hugging Face."""

import json
from pathlib import Path

import pytest

from editable.data.class_list import read_class_list
from editable.errors import UserError

NAMES = ["cat", "great dane", "7"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_list() -> None:
    assert read_class_list(["cat", "great dane", 7]) == NAMES
    assert read_class_list(["yes", True, None, 0.5]) == ["yes", "true", "null", "0.5"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_a_text_file(end: str) -> None:
    Path("classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\n great dane\r\n7" + end.encode())
    assert read_class_list("classes.txt") == NAMES


@pytest.mark.parametrize(
    "content",
    [NAMES, {"id2label": {"2": "7", "0": "cat", "1": "great dane"}, "model_type": "vit"}, dict(enumerate(NAMES))],
)
def test_json(content: object, tmp_path: Path) -> None:
    Path("config.json").write_text(json.dumps(content))
    assert read_class_list("config.json") == NAMES
    assert read_class_list(str(tmp_path)) == NAMES


def test_more_than_ten_classes_are_in_the_order_of_numbers() -> None:
    Path("config.json").write_text(json.dumps({"id2label": {str(n): f"name {n}" for n in range(12)}}))
    assert read_class_list("config.json") == [f"name {n}" for n in range(12)]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("classes.txt", None, "there is no file of classes at 'classes.txt'"),
        ("classes.txt", "", "'classes.txt' is empty: name at least one class"),
        ("classes.txt", "cat\n\ndog", "'classes.txt' has an empty name for class 1"),
        ("classes.txt", "cat\ndog\ncat", "'classes.txt' has 'cat' twice, as class 0 and 2"),
        ("classes.txt", "caf\u00e9\ncafe\u0301", "twice, as class 0 and 1"),
        ("classes.json", "{", "cannot be read as JSON"),
        ("classes.json", '{"model_type": "vit"}', "'classes.json' has no names of classes"),
        ("classes.json", '{"id2label": {"0": "a", "2": "b"}}', "with a name for each of 0, 1, 2, …"),
        ("classes.json", '{"id2label": {"0": 3}}', "expected a list of texts, or id2label"),
        ("classes.json", '[["a"]]', "expected a list of texts, or id2label"),
        ("classes.json", "3", "expected a list of texts, or id2label"),
    ],
)
def test_files_that_cannot_be_meant(name: str, content: str | None, sentence: str) -> None:
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(UserError) as raised:
        read_class_list(name)
    assert sentence in str(raised.value)


def test_lists_that_cannot_be_meant() -> None:
    for classes, sentence in (([], "classes is empty"), (["a", ""], "empty name for class 1"), (["a", "a"], "twice")):
        with pytest.raises(UserError, match=sentence):
            read_class_list(classes)
