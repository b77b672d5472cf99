"""No argument of a class survives where another class takes its place, by options and by files."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace, _typehints
from torch import nn

from editable.lightning_cli import EditableCLI
from tests.paths import CONFIGS
from tests.warned import whatever_is_warned

DIGITS = f"--config={CONFIGS / 'digits/editable.yaml'}"
FINE_TUNING = f"--config={CONFIGS / 'cifar10/fine_tuning_editable_rmsprop_layer3.yaml'}"
EXTRA_LAYER = f"--config={CONFIGS / 'cifar10/fine_tuning_editable_rmsprop_extra_layer.yaml'}"


class OnlyParsed(EditableCLI):
    """Parses a command line, and makes and runs nothing."""

    def instantiate_classes(self) -> None:
        """Make nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def parsed(*options: str) -> Namespace:
    return OnlyParsed(["fit", *options]).config.fit


def own_defaults(made: Any, **given: object) -> dict[str, object]:
    parameters = [some for some in inspect.signature(made).parameters.values() if some.default is not some.empty]
    return {some.name: some.default for some in parameters} | given


def own_arguments(spec: Namespace) -> dict[str, object]:
    return dict(spec.init_args.items())


@pytest.fixture
def second_file(tmp_path: Path) -> Path:
    optimizer = {"class_path": "SGD", "init_args": {"lr": 0.01}}
    rule = {"class_path": "editable.editing.rules.momentum.Momentum", "init_args": {"learning_rate": 0.3}}
    editor = {"class_path": "Editor", "init_args": {"rule": rule}}
    content = {"model": {"class_path": "EditableTrainingTask", "init_args": {"optimizer": optimizer, "editor": editor}}}
    path = tmp_path / "second.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_another_optimizer_has_its_own_defaults_by_a_shipped_file():
    arguments = own_arguments(parsed(FINE_TUNING).model.init_args.optimizer)
    expected = own_defaults(torch.optim.Adam, lr=4e-5)
    assert arguments == {name: expected[name] for name in arguments}
    assert arguments["weight_decay"] == 0, "the default of the task is SGD with 1e-4"


def test_another_optimizer_has_its_own_defaults_by_an_option():
    options = ["--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=3e-4"]
    arguments = own_arguments(parsed(EXTRA_LAYER, *options).model.init_args.optimizer)
    expected = own_defaults(torch.optim.Adam, lr=3e-4)
    assert arguments == {name: expected[name] for name in arguments}


def test_the_optimizer_that_is_made_has_no_weight_decay():
    class OnlyMade(EditableCLI):
        def _run_subcommand(self, subcommand: str) -> None:
            """Run nothing."""

    options = ["--model.weights=null", "--model.network.width=4", "--model.channels_last=false"]
    cli = OnlyMade(["fit", FINE_TUNING, *options])
    made = cli.model.optimizer([nn.Parameter(torch.ones(1))])
    assert isinstance(made, torch.optim.Adam)
    assert made.param_groups[0]["weight_decay"] == 0
    assert made.param_groups[0]["lr"] == 4e-5


def test_another_class_by_a_second_file(second_file: Path):
    """Nested, and named by file and by bare name; the same class under another name is no change."""
    with pytest.warns(UserWarning, match=r"Momentum takes the place of editable\.editing\.RMSProp, whose arguments"):
        model = parsed(DIGITS, f"--config={second_file}").model.init_args
    assert model.c_edit == 0.3, "of the same task"
    assert model.editor.init_args.max_steps == 10
    assert own_arguments(model.optimizer)["momentum"] == 0
    assert model.editor.init_args.rule.class_path.endswith(".Momentum")
    assert own_arguments(model.editor.init_args.rule)["decay"] == 0.9, "RMSProp has 0.5"
    assert own_arguments(model.editor.init_args.rule)["learn_decay"] is False


@pytest.mark.parametrize("name", ["RMSProp", "editable.editing.RMSProp", "editable.editing.rules.rmsprop.RMSProp"])
def test_the_same_class_keeps_its_arguments(name: str):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*takes the place of")
        rule = parsed(DIGITS, f"--model.editor.rule={name}").model.init_args.editor.init_args.rule
    assert own_arguments(rule)["learn_decay"] is True
    assert own_arguments(rule)["learning_rate"] == 1e-3


def test_what_somebody_gave_is_said_to_be_left_out():
    options = ["--model.editor.rule=Momentum", "--model.editor.rule.learning_rate=0.1"]
    with pytest.warns(UserWarning, match=r"Momentum takes the place of .*RMSProp.*learning_rate=0.001.*learn_decay"):
        parsed(DIGITS, *options)


def test_a_default_that_goes_is_not_spoken_of():
    with whatever_is_warned() as said:
        parsed(FINE_TUNING)
    assert not any("takes the place of" in str(warning.message) for warning in said)


def test_defaults_of_what_arguments_are_handed_on_to_are_not_spoken_of():
    """TensorBoard's logger hands its ``**kwargs`` on to torch's ``SummaryWriter(…, max_queue=10)``."""
    with whatever_is_warned() as said:
        parsed(DIGITS, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=x")
    assert not any("max_queue" in str(warning.message) for warning in said)


def test_another_data_module():
    options = ["--data=editable.data.ImageFolderDataModule", "--data.root=elsewhere"]
    with pytest.warns(UserWarning, match=r"ImageFolderDataModule takes the place of .*batch_size=32"):
        data = parsed(DIGITS, "--data.batch_size=32", *options).data
    assert own_arguments(data)["batch_size"] == 128
    assert own_arguments(data)["mean"] == [0.485, 0.456, 0.406], "three channels, not that of the digits"


def test_the_parser_of_others_is_as_it_was():
    before = _typehints.discard_init_args_on_class_path_change
    parsed(DIGITS)
    assert _typehints.discard_init_args_on_class_path_change is before
