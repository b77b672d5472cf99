"""Networks of many families, by timm and transformers, are split, edited, rewritten and asked for predictions."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader

from editable.cli import main
from editable.editing import Editor, RMSProp
from editable.models import SplitNetwork
from editable.rewriting import (
    ClosedForm,
    InverseMoment,
    LayerBlock,
    Regularisation,
    RewriteProblem,
    collect_second_moment,
    exemplars_from_images,
    make_memory,
)
from editable.tasks import ClassificationTask
from tests.conftest import MakeTrainer
from tests.hub_networks import FAMILIES, Family, images_of, network_of
from tests.warned import BEING_TAKEN, FEW_KEYS, UNTRACED, whatever_is_warned

pytestmark = pytest.mark.filterwarnings(BEING_TAKEN, FEW_KEYS, UNTRACED)


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def network(family: Family) -> nn.Module:
    return network_of(family)


@torch.no_grad()
def plain_logits(network: nn.Module, images: Tensor, params: dict[str, Tensor] | None = None) -> Tensor:
    """As the libraries' documentation has it: ``model(images)`` of timm, ``model(images).logits`` of transformers."""
    output = functional_call(network, params or {}, (images,))
    return output if isinstance(output, Tensor) else output.logits


@torch.no_grad()
def read_by(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """What a layer reads of some images, by a hook: vectors [channels, positions]."""
    seen: list[Tensor] = []
    module = network.get_submodule(layer)
    with module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        network(images)
    (inputs,) = seen
    return inputs.transpose(0, 1).flatten(1) if isinstance(module, nn.Conv2d) else inputs.flatten(0, -2).T


def test_both_halves_are_the_network(family: Family, network: nn.Module) -> None:
    images = images_of(family)
    with whatever_is_warned() as said:
        split = SplitNetwork(network, family.layer)
        features = split.prefix(images)
    with torch.no_grad():  # where gradients are wanted, torch may choose another kernel of attention
        assert torch.equal(split.suffix(features, {}), plain_logits(network, images))
    assert any("none of it is computed ahead" in str(some.message) for some in said) != family.is_traced
    if family.is_traced:
        assert not any(torch.equal(some, images) for some in features), "nothing is computed ahead"


def test_a_classifier_behind_what_cannot_be_traced_has_a_prefix() -> None:
    """Of transformers' vision transformer, whose body as a whole is called once for each image."""
    network = network_of(FAMILIES["transformers ViT"])
    images = images_of(FAMILIES["transformers ViT"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*computed ahead")
        split = SplitNetwork(network, "classifier")
        features = split.prefix(images)
    assert [tuple(feature.shape) for feature in features] == [(len(images), 16)]
    with torch.no_grad():
        assert torch.equal(split.suffix(features, {}), plain_logits(network, images))


def test_an_edit_succeeds_and_leaves_the_network_alone(family: Family, network: nn.Module) -> None:
    images = images_of(family)
    before = plain_logits(network, images)
    split = SplitNetwork(network, family.layer)
    target = (before[:1].argmax(dim=1) + 1) % 5
    features = tuple(some.detach() for some in split.edit_prefix(images[:1]))
    editor = Editor(RMSProp(0.05), max_steps=100)
    result = editor(lambda inputs, params: split.edit_suffix(inputs, params), split.params, features, target)
    assert result.success
    assert plain_logits(network, images[:1], dict(result.params)).argmax(dim=1) == target
    assert torch.equal(plain_logits(network, images), before)


def test_second_moments_are_those_of_what_the_layer_reads(family: Family, network: nn.Module) -> None:
    images = images_of(family, 8)
    block = LayerBlock(network, family.layer)
    memory = make_memory(block.weight.shape, block.geometry)
    moment = collect_second_moment(block, memory, images.split(3))
    keys = read_by(network, family.layer, images).double()
    assert memory.key_size == len(keys)
    torch.testing.assert_close(moment.mean, keys @ keys.T / keys.shape[1], rtol=1e-4, atol=1e-6)


def test_a_rewritten_layer_recalls_what_it_is_asked_for(family: Family, network: nn.Module) -> None:
    """By the closed form W k* = W₀ k, keys by the mean over all positions, of vectors read by a hook."""
    images = images_of(family, 8)
    block = LayerBlock(network, family.layer)
    memory = make_memory(block.weight.shape, block.geometry)
    moment = collect_second_moment(block, memory, [images])
    inverse = InverseMoment(moment.mean, Regularisation(epsilon=1e-3))
    originals, manipulated = images[:1], images[1:2]
    mask = torch.ones(1, family.side, family.side)
    problem = RewriteProblem(block, memory, exemplars_from_images(block, originals, manipulated, mask), inverse)
    result = ClosedForm()(problem)
    (rewritten,) = result.params.values()
    weight = network.get_submodule(family.layer).weight.detach()
    if weight.ndim == 4 and weight.shape[-2:] != (1, 1):
        pytest.skip("the mean key of a larger kernel is one of patches")
    key = read_by(network, family.layer, manipulated).mean(dim=1)
    target = read_by(network, family.layer, originals).mean(dim=1)
    torch.testing.assert_close(
        rewritten.flatten(1) @ key, weight.flatten(1) @ target, rtol=1e-3, atol=1e-4 * float(target.abs().max())
    )


def test_predictions(family: Family, network: nn.Module, make_trainer: MakeTrainer) -> None:
    images = images_of(family)
    loader = DataLoader(list(zip(images, torch.zeros(4, dtype=torch.int64), strict=True)), batch_size=3)
    predicted = torch.cat(make_trainer().predict(ClassificationTask(network), loader))
    torch.testing.assert_close(predicted, plain_logits(network, images).softmax(dim=1), rtol=1e-4, atol=1e-6)


COMMAND_LINE = {
    "timm": [
        "--model.network=timm.create_model",
        "--model.network.model_name=vit_tiny_patch16_224",
        "--model.network.num_classes=3",
        "--model.network.img_size=[16,24]",
        "--model.network.patch_size=8",
        "--model.network.embed_dim=24",
        "--model.network.depth=2",
        "--model.network.num_heads=2",
        "--evaluation.editable_layers=[blocks.1.mlp]",
    ],
    "transformers": [
        "--model.network=editable.models.hugging_face_classifier",
        "--model.network.source=resnet_folder",
        "--evaluation.editable_layers=[resnet.encoder.stages.1]",
    ],
}


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test images of three classes in the working folder, and a network as save_pretrained leaves it."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        folder = Path("images/test", name)
        folder.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    family = FAMILIES["transformers ResNet"]
    torch.manual_seed(0)
    network = family.make().__class__
    config = family.make().config
    config.id2label = {0: "cat", 1: "dog", 2: "owl"}
    network(config).save_pretrained("resnet_folder")


@pytest.fixture
def run(_folder: None) -> Callable[..., tuple[Path, dict[str, float]]]:
    def command(name: str, *options: str) -> tuple[Path, dict[str, float]]:
        before = set(Path("runs").rglob("metrics.json"))
        main(
            [
                name,
                "--model=ClassificationTask",
                "--data=ImageFolderDataModule",
                "--data.root=images",
                "--data.image_size=[16,24]",
                "--data.num_workers=0",
                "--data.batch_size=4",
                "--evaluation.editor=Editor",
                "--evaluation.editor.rule=RMSProp",
                "--evaluation.editor.rule.learning_rate=0.02",
                "--evaluation.editor.max_steps=100",
                "--evaluation.generality_views=0",
                "--trainer.accelerator=cpu",
                "--trainer.enable_progress_bar=false",
                "--trainer.enable_model_summary=false",
                *options,
            ]
        )
        (made,) = set(Path("runs").rglob("metrics.json")) - before or {None}
        return made.parent, json.loads(made.read_text())

    return command


@pytest.mark.parametrize("library", COMMAND_LINE)
def test_by_the_command_line(library: str, run: Callable[..., tuple[Path, dict[str, float]]]) -> None:
    network = COMMAND_LINE[library]
    _, tested = run("test", *network, "--evaluation.num_edits=3")
    assert tested["success_rate"] == 1
    label = "owl"
    edited, metrics = run("edit", *network, "--edit.images=0", f"--edit.labels={label}", "--edit.max_drawdown=1")
    assert metrics["edit_num_images"] == 1
    _, corrected = run("test", *network, "--evaluation.num_edits=0", f"--patches={edited / 'edit.safetensors'}")
    assert corrected["test_loss"] != tested["test_loss"]
