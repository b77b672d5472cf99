"""A function with ``**kwargs`` takes plain arguments: in files, as options, and in what is saved."""

import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from jsonargparse import _typehints
from torch import Tensor, nn

from editable.cli import main
from editable.lightning_cli import EditableCLI
from tests.mistakes import error_line

QUIET = [
    "--data=DigitsDataModule",
    "--evaluation.num_edits=0",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
HERE = "tests.command_line.test_keywords"


class Widths(nn.Module):
    """A classifier of digits that keeps what it was given."""

    def __init__(self, widths: list[int], num_classes: int, name: Any = None, options: Any = None) -> None:
        super().__init__()
        self.given = (widths, num_classes, name, options)
        sizes = [64, *widths, num_classes]
        self.layers = nn.Sequential(*(nn.Linear(first, second) for first, second in pairwise(sizes)))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.flatten(1))


KINDS = {"widths": Widths}


def make(kind: str, scale: int = 1, **settings: Any) -> nn.Module:
    """Make a network of a kind that only running the code tells."""
    settings["widths"] = [scale * width for width in settings["widths"]]
    return KINDS[kind](**settings)


class Made(EditableCLI):
    """Makes the objects, and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def options(**arguments: str) -> list[str]:
    network = [f"--model.network.{name.replace('__', '.')}={value}" for name, value in arguments.items()]
    return ["test", "--model=ClassificationTask", f"--model.network={HERE}.make", *network, *QUIET]


def made(arguments: list[str]) -> nn.Module:
    return Made(arguments).model.network


def as_file(**arguments: Any) -> str:
    network = {"class_path": f"{HERE}.make", "init_args": arguments}
    content = {"model": {"class_path": "ClassificationTask", "init_args": {"network": network}}}
    Path("network.yaml").write_text(yaml.safe_dump(content))
    return "--config=network.yaml"


def test_as_options() -> None:
    network = made(
        options(kind="widths", scale="2", num_classes="10", widths="[4,3]", name="a name", options__a__b="1")
    )
    assert network.given == ([8, 6], 10, "a name", {"a": {"b": 1}})


def test_in_a_file_and_changed_by_options() -> None:
    file = as_file(kind="widths", widths=[4], num_classes=3, options={"a": 1})
    assert made(["test", file, *QUIET]).given == ([4], 3, None, {"a": 1})
    changed = ["--model.network.num_classes=7", "--model.network.init_args.scale=2"]
    assert made(["test", file, *changed, *QUIET]).given == ([8], 7, None, {"a": 1})


def test_where_jsonargparse_has_them_by_itself() -> None:
    assert made(options(kind="widths", dict_kwargs__widths="[4]", dict_kwargs__num_classes="2")).given[:2] == ([4], 2)


def test_the_saved_configuration_starts_the_same_run() -> None:
    main(options(kind="widths", widths="[4]", num_classes="10", name="seven"))
    saved = Path("runs/unnamed/version_0/config.yaml")
    arguments = yaml.safe_load(saved.read_text())["model"]["init_args"]["network"]
    assert arguments["init_args"] == {"kind": "widths", "scale": 1, "widths": [4], "num_classes": 10, "name": "seven"}
    assert set(arguments) == {"class_path", "init_args"}
    assert made(["test", f"--config={saved}"]).given[:2] == ([4], 10)


def test_printed(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        Made([*options(kind="widths", widths="[4]", num_classes="10"), "--print_config"])
    network = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["network"]
    assert network["init_args"]["widths"] == [4]


def test_another_function_does_not_get_them() -> None:
    file = as_file(kind="widths", widths=[4], num_classes=10)
    with pytest.warns(UserWarning, match=r"takes the place of .*make, whose arguments go with it: .*widths=\[4\]"):
        network = made(["test", file, "--model.network=editable.models.cifar_resnet", *QUIET])
    assert not isinstance(network, Widths)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"kind": "widths", "widths": "[4]", "num_clases": "10"}, "unexpected keyword argument 'num_clases'"),
        ({"kind": "widths", "widths": "[4]"}, "missing 1 required positional argument: 'num_classes'"),
        ({"kind": "other", "widths": "[4]"}, "make cannot be made of its arguments ('other')"),
        ({"kind": "widths", "scale": "two", "widths": "[4]"}, "Expected a <class 'int'>"),
        ({"widths": "[4]"}, "arguments are required: kind"),
    ],
)
def test_refused(arguments: dict[str, str], sentence: str, capsys: pytest.CaptureFixture) -> None:
    assert sentence in error_line(options(**arguments), capsys)


def test_a_misspelt_name_that_is_known(capsys: pytest.CaptureFixture) -> None:
    network = ["--model.network=torchvision.models.resnet18", "--model.network.num_clases=10"]
    line = error_line(["test", "--model=ClassificationTask", *network, *QUIET], capsys)
    assert "did you mean 'num_classes' by 'num_clases'?" in line


def test_a_class_takes_what_it_names_alone(capsys: pytest.CaptureFixture) -> None:
    network = [f"--model.network={HERE}.Widths", "--model.network.widths=[4]", "--model.network.other=1"]
    assert "not accepted" in error_line(["test", "--model=ClassificationTask", *network, *QUIET], capsys)


def test_torchvision_with_weights_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By their name, as torchvision has it; the file lies where torch keeps what it has downloaded."""
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(3)
    stored = torchvision.models.squeezenet1_1()
    url = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    torch.save(stored.state_dict(), tmp_path / "hub/checkpoints" / url.rpartition("/")[2])
    network = ["--model.network=torchvision.models.squeezenet1_1", "--model.network.weights=IMAGENET1K_V1"]
    loaded = made(["test", "--model=ClassificationTask", *network, *QUIET])
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(loaded.eval()(images), stored.eval()(images))


def test_jsonargparse_is_left_as_it_was() -> None:
    before = _typehints.adapt_class_type
    made(options(kind="widths", widths="[4]", num_classes="10"))
    assert _typehints.adapt_class_type is before
    assert inspect.getmodule(before) is _typehints
