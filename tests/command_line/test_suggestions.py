"""A misspelt option, key or value ends in a sentence with the name that was meant."""

import sys
from argparse import ArgumentError
from pathlib import Path

import pytest
import yaml

from editable.command_line.near import near_name
from editable.command_line.parser import EditableParser
from editable.errors import UserError
from editable.mistakes import users_mistake
from tests.command_line.parsing import parsed

RULE = {"class_path": "editable.editing.RMSPropp", "init_args": {"learning_rate": 0.1}}


def said(command: str, *options: str) -> str:
    with pytest.raises((Exception, SystemExit)) as error:
        parsed(command, *options)
    sentence = users_mistake(error.value)
    assert sentence is not None, error.value
    assert sentence.count("did you mean") <= 1
    assert "Parser key" not in sentence
    assert not sentence.endswith("did you mean 'patches'?"), "of the parser outside"
    return sentence


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        # options
        ("test", ("--modle=x",), "there is no option '--modle': did you mean '--model'?"),
        ("test", ("--modle", "x"), "there is no option '--modle': did you mean '--model'?"),
        ("fit", ("--trainer.max_epoch=3",), "'--trainer.max_epoch': did you mean '--trainer.max_epochs'?"),
        ("test", ("--evaluation.image_strid", "3"), "did you mean '--evaluation.image_stride'?"),
        ("test", ("--num_edits=3",), "there is no option '--num_edits': did you mean '--evaluation.num_edits'?"),
        ("test", ("--patchs", "a.safetensors"), "did you mean '--patches'?"),
        ("edit", ("--edit.image", "12"), "did you mean '--edit.images'?"),
        ("edit", ("--edti.images", "12"), "did you mean '--edit.images'?"),
        ("test", ("--xyzzy=1",), "there is no option '--xyzzy'"),
        ("test", ("--evaluation.editable_layers", "fc", "layer3"), "'layer3' is no option's value: a list is one"),
        # options of classes, and of classes inside them
        ("fit", ("--model.c_edti=1",), "model: Problem with given class_path 'editable.tasks.EditableTrainingTask'"),
        ("fit", ("--model.c_edti=1",), "did you mean 'c_edit'?"),
        ("fit", ("--model.network.num_clases=3",), "did you mean 'num_classes'?"),
        ("fit", ("--model.editor.max_step=3",), "did you mean 'max_steps'?"),
        ("fit", ("--data.num_clases=3",), "Option 'num_clases' is not accepted: known are batch_size, num_workers,"),
        ("fit", ("--model.patches=3",), "Option 'patches' is not accepted"),
        ("test", ("--rewrite.layrs=fc",), "did you mean 'layers'?"),
        # values
        (
            "test",
            ("--evaluation.editor=Editor", "--evaluation.editor.rule=rmsprop"),
            "evaluation.editor.rule: there is ",
        ),
        ("test", ("--evaluation.editor=Editor", "--evaluation.editor.rule=rmsprop"), "'editable.editing.RMSProp'?"),
        ("fit", ("--model.editor.rule=rmsprop",), "model.editor.rule: there is no 'rmsprop': did you mean '"),
        (
            "fit",
            ("--model=ClassificatonTask",),
            "model: there is no 'ClassificatonTask': did you mean 'editable.tasks.C",
        ),
        ("fit", ("--model=editable.task.ClassificationTask",), "did you mean 'editable.tasks.ClassificationTask'?"),
        ("fit", ("--data=DigitDataModule",), "did you mean 'editable.data.DigitsDataModule'?"),
        ("fit", ("--data=Xyzzy",), "data: there is no 'Xyzzy': known are "),
        ("fit", ("--model.network=cifar_resnet18",), "did you mean 'editable.models.cifar_resnet18'?"),
        ("fit", ("--model.network=editable.models.cifar_resnt",), "did you mean 'editable.models.cifar_resnet'?"),
        ("fit", ("--model.network=torch.nn.Linea",), "did you mean 'torch.nn.Linear'?"),
        ("fit", ("--model.optimizer=torch.optim.Adm",), "did you mean 'torch.optim.Adam'?"),
        ("fit", ("--model.optimizer=adam",), "did you mean 'torch.optim.Adam'?"),
        (
            "fit",
            ("--trainer.callbacks+=ModelCheckpont",),
            "did you mean 'lightning.pytorch.callbacks.ModelCheckpoint'?",
        ),
        ("fit", ("--model.lr_scheduler_interval=epoc",), "there is no 'epoc': did you mean 'epoch'?"),
        ("test", ("--evaluation.generality_augmentation=crop_filp",), "did you mean 'crop_flip'?"),
        ("test", ("--trainer.precision=16-mixd",), "did you mean '16-mixed'?"),
        ("test", ("--trainer.precision=autoo",), "did you mean 'auto'?"),
        ("test", ("--evaluation.generality_augmentation=xyzzy",), "there is no 'xyzzy': known are shift, crop_flip, "),
        (
            "fit",
            ("--model.help=EditableTrainingTsk",),
            "model: there is no 'EditableTrainingTsk': did you mean 'editable.",
        ),
        ("fit", ("--model.network=collections.OrderedDcit",), "did you mean 'collections.OrderedDict'?"),
        ("fit", ("--model.network=collections.xyzzy",), "module 'collections' has no attribute 'xyzzy'"),
    ],
)
def test_options_and_values(command: str, options: tuple[str, ...], says: str):
    assert says in said(command, *options)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"modle": {"class_path": "editable.tasks.ClassificationTask"}}, "'modle.class_path': did you mean 'model'?"),
        ({"model": {"class_pth": "editable.tasks.ClassificationTask"}}, "did you mean 'class_path'?"),
        ({"model": {"class_path": "EditableTrainingTask", "init_arg": {"c_edit": 1}}}, "did you mean 'init_args'?"),
        ({"model": {"class_path": "EditableTrainingTask", "init_args": {"c_edti": 1}}}, "did you mean 'c_edit'?"),
        ({"evaluation": {"num_edit": 3}}, "option 'evaluation.num_edit': did you mean 'evaluation.num_edits'?"),
        ({"trainer": {"max_epoch": 3}}, "option 'trainer.max_epoch': did you mean 'trainer.max_epochs'?"),
        (
            {"evaluation": {"editor": {"class_path": "Editor", "init_args": {"rule": RULE}}}},
            "editable.editing.RMSProp'?",
        ),
        ({"data": {"class_path": "editable.data.DigitDataModule"}}, "did you mean 'editable.data.DigitsDataModule'?"),
        ({"seed_everythin": 1}, "did you mean 'seed_everything'?"),
        ({"xyzzy": 1}, "does not accept option 'xyzzy'"),
    ],
)
def test_keys_of_a_file(content: dict, says: str, tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    assert says in said("fit", f"--config={path}")


def test_before_a_class_is_named(tmp_path: Path):
    empty = tmp_path / "empty.yaml"
    empty.write_text("model: null\n")
    assert said("fit", f"--config={empty}", "--model.c_edit=1").endswith(": name a class that has it first")


@pytest.mark.parametrize(
    ("given", "near"),
    [("rmsprop", "RMSProp"), ("gd", "GD"), ("ScaledGd", "ScaledGD"), ("xyzzy", None), ("", None), ("--a.b", None)],
)
def test_near_names(given: str, near: str | None):
    assert near_name(given, ["GD", "ScaledGD", "RMSProp"]) == near


def test_an_option_is_near_by_its_last_part_alone():
    assert near_name("--edits", ["--a.edit", "--b.edits"]) == "--b.edits"
    assert near_name("edits", ["a.edit", "b.edits"]) == "b.edits"


def test_a_mistake_of_ours_stays_as_it_is():
    assert users_mistake(UserError("c_edit must be at least 0, got -1")) == "c_edit must be at least 0, got -1"


@pytest.mark.parametrize(
    ("arguments", "near"),
    [(["shwo", "a"], "show"), (["show", "a", "--form=jsno"], "json"), (["show", "a", "--fomr=json"], "--form")],
)
def test_a_command_with_commands_of_its_own(arguments: list[str], near: str):
    parser, inside = EditableParser(prog="patches"), EditableParser()
    inside.add_argument("files", nargs="+")
    inside.add_argument("--form", choices=["table", "json"], default="table")
    parser.add_subcommands().add_subcommand("show", inside)
    with pytest.raises(ArgumentError) as error:
        parser.parse_args(arguments)
    assert str(error.value).endswith(f": did you mean '{near}'?")


@pytest.mark.parametrize("place", ["my_own.py", "my_own/networks.py"])
@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_module_of_the_working_folder_that_is_not_on_the_path(
    place: str, in_a_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [some for some in sys.path if some not in ("", ".")])
    name = ".".join([*Path(place).with_suffix("").parts, "Net"])
    Path("mine.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": {"class_path": name}}}}))
    options = ["--config=mine.yaml"] if in_a_file else [f"--model.network={name}"]
    assert "PYTHONPATH" not in said("test", "--model=ClassificationTask", *options)
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).touch()
    sentence = said("test", "--model=ClassificationTask", *options)
    assert sentence.endswith("of the working folder, set PYTHONPATH=. before the command")
    assert "there is no module 'my_own' where Python looks for them" in sentence
