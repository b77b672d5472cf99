"""A whole number is no share, in whichever order a type names the two; what has a point or an exponent is none."""

from pathlib import Path
from typing import Any, Union

import pytest
import yaml
from jsonargparse import _typehints
from lightning.pytorch import Callback

from tests.command_line.parsing import parsed

FLOAT_FIRST = Union[float, int]  # noqa: UP007  what typing keeps one object of
CLASS_PATH = f"{__name__}.Share"


class Share(Callback):
    """Takes numbers of either kind."""

    def __init__(self, some: float | int | None = 0.5, more: list[float | int] | None = None, old: FLOAT_FIRST = 2):
        self.numbers = (some, more, old)


def numbers(*options: str) -> Any:
    config = parsed("fit", f"--trainer.callbacks+={CLASS_PATH}", *options)
    return config.trainer.callbacks[-1].init_args


@pytest.mark.parametrize("name", ["some", "old"])
@pytest.mark.parametrize(("given", "taken"), [("1", 1), ("-3", -3), ("1.0", 1.0), ("1e-3", 0.001), ("0.25", 0.25)])
def test_an_option(name: str, given: str, taken: float):
    value = numbers(f"--trainer.callbacks.{name}={given}")[name]
    assert (value, type(value)) == (taken, type(taken))


def test_in_a_list():
    assert [type(one) for one in numbers("--trainer.callbacks.more=[1,0.5,2.0]").more] == [int, float, float]


def test_in_a_file(tmp_path: Path):
    path = tmp_path / "run.yaml"
    callback = {"class_path": CLASS_PATH, "init_args": {"some": 1, "more": [2, 1.0]}}
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    arguments = parsed("fit", f"--config={path}").trainer.callbacks[-1].init_args
    assert [type(one) for one in (arguments.some, *arguments.more)] == [int, int, float]


@pytest.mark.parametrize("limit", ["limit_train_batches", "limit_predict_batches", "overfit_batches"])
def test_limits_of_the_trainer(limit: str, monkeypatch: pytest.MonkeyPatch):
    """As where another library has made the union first: the float stands before the int."""
    theirs = _typehints.sort_subtypes_for_union

    def floats_first(*args: Any) -> list[Any]:
        return sorted(theirs(*args), key=lambda kind: kind is int)

    monkeypatch.setattr(_typehints, "sort_subtypes_for_union", floats_first)
    assert type(parsed("fit", f"--trainer.{limit}=1").trainer[limit]) is int
    assert type(parsed("fit", f"--trainer.{limit}=1.0").trainer[limit]) is float
