"""One value where a list is expected is a list of one; what is no list of anything stays a mistake."""

from argparse import ArgumentError
from pathlib import Path

import pytest
import yaml
from jsonargparse import _typehints

from editable.mistakes import users_mistake
from tests.command_line.parsing import parsed


def test_by_an_option():
    assert parsed("test", "--evaluation.editable_layers=fc").evaluation.editable_layers == ["fc"]
    assert parsed("fit", "--model.editable_layers=fc").model.init_args.editable_layers == ["fc"]
    assert parsed("fit", "--model.editable_layers", "7").model.init_args.editable_layers == ["7"]


def test_a_list_is_a_list():
    assert parsed("fit", "--model.editable_layers=[fc,layer3]").model.init_args.editable_layers == ["fc", "layer3"]
    more = parsed("fit", "--model.editable_layers=[fc]", "--model.editable_layers+=layer3")
    assert more.model.init_args.editable_layers == ["fc", "layer3"]


def test_by_a_file(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"evaluation": {"editable_layers": "fc"}, "model": {"editable_layers": "fc"}}))
    config = parsed("fit", f"--config={path}")
    assert config.evaluation.editable_layers == config.model.init_args.editable_layers == ["fc"]


def test_an_image_by_its_position():
    assert parsed("edit", "--edit.images", "12").edit.images in (12, "12")


def test_numbers():
    assert parsed("fit", "--data.mean=0.5").data.init_args.mean == [0.5]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--evaluation.num_edits=many", "Expected a <class 'int'>. Got value: many"),
        ("--trainer.devices=1", None),
        ("--data.mean=grey", "grey"),
        ("--model.editable_layers={a: 1}", "editable_layers"),
        ("--trainer.callbacks=Xyzzy", "Xyzzy"),
    ],
)
def test_what_takes_no_list_is_as_it_was(option: str, says: str | None):
    if says is None:
        assert parsed("fit", option).trainer.devices in (1, "1")
        return
    with pytest.raises((Exception, SystemExit)) as error:
        parsed("fit", option)
    assert says in (users_mistake(error.value) or "")


def test_the_cause_of_a_mistake_is_kept():
    with pytest.raises(ArgumentError) as error:
        parsed("fit", "--trainer.callbacks=Xyzzy")
    causes, some = [], error.value
    while some is not None:
        causes.append(some)
        some = some.__cause__
    assert "Xyzzy" in str(causes[-1])
    assert len(causes) > 2


def test_the_parser_of_others_is_as_it_was():
    theirs = _typehints.ActionTypeHint._check_type
    parsed("fit")
    assert _typehints.ActionTypeHint._check_type is theirs
