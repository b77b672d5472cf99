"""Classifiers of transformers from local folders: weights as data, and nothing asked of the hub."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import class_names_of, hugging_face_classifier, logits_of
from editable.tasks import ClassificationTask

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 16,
    "patch_size": 8,
}
NAMES = {0: "cat", 1: "dog", 2: "owl"}
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network with names for its classes, as transformers itself saves it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    network = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, id2label=NAMES))
    network.save_pretrained(tmp_path / "vit")
    return Path("vit")


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return logits_of(network.eval()(IMAGES))


def test_a_local_folder(folder: Path) -> None:
    network = hugging_face_classifier(str(folder))
    assert torch.equal(logits(network), logits(transformers.ViTForImageClassification.from_pretrained(str(folder))))
    assert class_names_of(network) == ["cat", "dog", "owl"]


def test_weights_in_half_precision_become_single(folder: Path) -> None:
    transformers.ViTForImageClassification.from_pretrained(str(folder)).half().save_pretrained("half")
    assert {parameter.dtype for parameter in hugging_face_classifier("half").parameters()} == {torch.float32}


def test_random_weights(folder: Path) -> None:
    torch.manual_seed(2)
    first = hugging_face_classifier("vit", pretrained=False, **SMALL, num_labels=4)
    torch.manual_seed(2)
    expected = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, num_labels=4))
    assert torch.equal(logits(first), logits(expected))
    assert not torch.equal(logits(hugging_face_classifier("vit", False, **SMALL)), logits(expected)[:, :2])
    local = hugging_face_classifier(str(folder), pretrained=False)
    assert class_names_of(local) == ["cat", "dog", "owl"]


def test_another_number_of_classes_gets_a_random_classifier(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"2 tensors \(classifier.bias, classifier.weight\) of 'vit' are random"):
        network = hugging_face_classifier(str(folder), num_labels=7)
    assert logits(network).shape == (2, 7)
    original = hugging_face_classifier(str(folder)).state_dict()
    same = [name for name, value in network.state_dict().items() if "classifier" not in name]
    assert all(torch.equal(network.state_dict()[name], original[name]) for name in same)


def test_weights_that_are_missing_or_left_over_are_said(folder: Path) -> None:
    with pytest.warns(UserWarning, match="in the weights of 'vit' are left out"):
        hugging_face_classifier(str(folder), num_hidden_layers=0)
    with pytest.warns(UserWarning, match="of 'vit' are random, as its weights have none that fit"):
        hugging_face_classifier(str(folder), num_hidden_layers=2)


def test_the_hub_is_asked_where_it_is_named_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def refuse(place: str, **settings: Any) -> None:
        asked.append((place, settings))
        raise OSError("no connection")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(UserError, match=r"'hf-hub:owner/vit' cannot be read .* \(no connection\)"):
        hugging_face_classifier("hf-hub:owner/vit")
    with pytest.raises(UserError, match="no connection"):
        hugging_face_classifier(str(folder))
    assert [(place, settings["local_files_only"]) for place, settings in asked] == [("owner/vit", False), ("vit", True)]
    assert not any(settings["trust_remote_code"] for _, settings in asked)


@pytest.mark.parametrize(
    ("source", "settings", "sentence"),
    [
        (
            "owner/vit",
            {},
            "there is no folder 'owner/vit': give one that save_pretrained has written, or hf-hub:",
        ),
        ("owner/vit", {"pretrained": False}, "there is no folder 'owner/vit'"),
        ("vitt", {"pretrained": False}, "'vitt' cannot be read as an image classifier of transformers (Unrecognized"),
        ("bert", {"pretrained": False}, "'bert' cannot be read as an image classifier"),
        ("vit", {"hiden_size": 8}, "the configuration of 'vit', a ViTConfig, has no setting 'hiden_size'"),
        ("vit", {"hidden_size": 8}, "the weights of 'vit' do not fit its configuration"),
        ("vit", {"hidden_size": "eight"}, "got str"),
        ("empty", {}, "the folder 'empty' has no config.json"),
        ("pickled", {}, "the folder 'pickled' has no weights as safetensors"),
        ("broken", {}, "'broken' cannot be read as an image classifier"),
    ],
)
def test_mistakes_end_in_one_sentence(folder: Path, source: str, settings: dict[str, Any], sentence: str) -> None:
    Path("empty").mkdir()
    Path("pickled").mkdir()
    shutil.copy(folder / "config.json", "pickled")
    Path("pickled/pytorch_model.bin").write_bytes(b"code")
    shutil.copytree(folder, "broken")
    Path("broken/model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError) as raised:
        hugging_face_classifier(source, **settings)
    assert sentence in str(raised.value)
    assert len(str(raised.value)) < 500


def test_other_names_of_classes_are_said(folder: Path) -> None:
    task = ClassificationTask(hugging_face_classifier(str(folder)))
    task._trainer = SimpleNamespace(datamodule=SimpleNamespace(classes=["cat", "owl", "dog"]))  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="class 1 is 'dog' there and 'owl' in the data"):
        task.setup("test")
