"""torchvision's classifiers by name; downloads are replaced by random weights."""

from collections.abc import Callable
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from editable.errors import UserError
from editable.models import torchvision_model

DOWNLOAD = "torchvision.models._api.load_state_dict_from_url"


def serve(monkeypatch: pytest.MonkeyPatch, build: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
    state = build().state_dict()
    monkeypatch.setattr(DOWNLOAD, lambda *args, **kwargs: state)
    return state


def test_random_weights() -> None:
    network = torchvision_model("mobilenet_v3_small", num_classes=7).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 32, 32)).shape == (1, 7)


def test_default_number_of_classes() -> None:
    assert torchvision_model("squeezenet1_1").classifier[1].out_channels == 1000


@pytest.mark.parametrize("num_classes", [None, 1000])
def test_pretrained_weights(monkeypatch: pytest.MonkeyPatch, num_classes: int | None) -> None:
    state = serve(monkeypatch, models.resnet18)
    network = torchvision_model("resnet18", "IMAGENET1K_V1", num_classes)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("name", "classifier"), [("resnet18", "fc"), ("squeezenet1_1", "classifier.1")])
def test_pretrained_weights_for_other_classes(monkeypatch: pytest.MonkeyPatch, name: str, classifier: str) -> None:
    state = serve(monkeypatch, lambda: models.get_model(name))
    network = torchvision_model(name, weights="DEFAULT", num_classes=3)
    fresh = [key for key, value in network.state_dict().items() if not torch.equal(value, state[key])]
    assert fresh == [f"{classifier}.weight", f"{classifier}.bias"]
    with torch.no_grad():
        assert network.eval()(torch.randn(2, 3, 64, 64)).shape == (2, 3)


def test_unknown_name_lists_near_names() -> None:
    with pytest.raises(UserError, match=r"no model 'resnet81'.*resnet18"):
        torchvision_model("resnet81")


def test_detection_models_are_no_classifiers() -> None:
    with pytest.raises(UserError, match="fasterrcnn_resnet50_fpn"):
        torchvision_model("fasterrcnn_resnet50_fpn")


def test_unknown_weights_list_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"no weights of resnet18 'IMAGENET1K_V2'.*IMAGENET1K_V1"):
        torchvision_model("resnet18", "IMAGENET1K_V2")


def test_impossible_number_of_classes() -> None:
    with pytest.raises(UserError, match="num_classes must be at least 1, got 0"):
        torchvision_model("resnet18", num_classes=0)


@pytest.mark.parametrize("failure", [URLError("no route"), RuntimeError("invalid hash value")])
def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise failure

    monkeypatch.setattr(DOWNLOAD, fail)
    with pytest.raises(UserError, match=r"IMAGENET1K_V1 of resnet18.*put https://.*resnet18.*\.pth into"):
        torchvision_model("resnet18", "IMAGENET1K_V1")
