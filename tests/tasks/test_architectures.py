"""Every architecture of the configurations, made small, at 32 and 224 pixels: edited, scored, trained, as plainly."""

import copy
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.models import DenseNet, ResNet
from torchvision.models.resnet import BasicBlock
from torchvision.models.vision_transformer import VisionTransformer

from editable.data.edits.edit_streams import Edits
from editable.editing import EditEvaluator, Editor, RMSProp
from editable.models import (
    ScoringSettings,
    SplitNetwork,
    add_extra_layer,
    cifar_densenet,
    cifar_resnet,
    select_parameters,
)
from editable.tasks import EditableTrainingTask
from tests.conftest import MakeTrainer
from tests.editing.reference import rmsprop, textbook_edit
from tests.models.reference import normal, settled
from tests.tasks.reference import (
    cross_entropy,
    editable_training_loss,
    loader,
    predictions_after_a_training_step,
)

ALPHA, BETA, MAX_STEPS, CLASSES = 3e-3, 0.5, 4, 4


def cifar_dense() -> nn.Module:
    return cifar_densenet(CLASSES, growth_rate=4, layers=(1, 2, 3, 2), width=6)


def dense() -> nn.Module:
    return DenseNet(growth_rate=4, block_config=(1, 2, 3, 2), num_init_features=6, num_classes=CLASSES)


def residual() -> nn.Module:
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)
    narrow = cifar_resnet(CLASSES, width=4, layers=(1, 1, 1, 1))
    for name in ("layer1", "layer2", "layer3", "layer4", "fc"):
        setattr(network, name, getattr(narrow, name))
    network.conv1, network.bn1 = nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(4)
    return network


def transformer() -> nn.Module:
    network = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=CLASSES)
    nn.init.normal_(network.heads.head.weight)  # torchvision starts it at zero
    return network


Build = Callable[[], nn.Module]
ARCHITECTURES: dict[str, tuple[Build, str, int]] = {
    "densenet at 32": (cifar_dense, "denseblock3", 16),
    "densenet at 224": (dense, "denseblock3", 64),
    "resnet at 224": (residual, "layer3", 64),
    "vit": (transformer, "encoder_layer_1", 32),
}
CASES = [pytest.param(*case, id=name) for name, case in ARCHITECTURES.items()] + [
    pytest.param(build, "extra_layer", size, id=f"{name}, extra layer")
    for name, (build, _, size) in ARCHITECTURES.items()
]
architectures = pytest.mark.parametrize(("build", "layers", "size"), CASES)


def make(build: Build, layers: str) -> nn.Module:
    """In float64, with an extra layer where that is edited, whose second half is not zero any more."""
    torch.manual_seed(0)
    network = build()
    if layers == "extra_layer":
        add_extra_layer(network, hidden=6)
        for name, param in select_parameters(network, layers).items():
            if "contract" in name:
                nn.init.normal_(param, std=0.3)
    return settled(network)


def names_of(network: nn.Module, layers: str) -> list[str]:
    return list(select_parameters(network, layers))


def images_and_labels(number: int, size: int) -> tuple[Tensor, Tensor]:
    return normal(number, 3, size, size, seed=1), torch.arange(number) % CLASSES


def predict(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(images).argmax(dim=1)


@architectures
def test_edits_and_error_counts_are_those_of_a_loop_over_copies(build: Build, layers: str, size: int) -> None:
    network = make(build, layers)
    images, labels = images_and_labels(12, size)
    before = predict(network, images)
    edits = Edits(torch.arange(4), (before[:4] + torch.arange(4)) % CLASSES)  # the first needs no step
    rows = []
    for index, label in zip(edits.indices.tolist(), edits.labels, strict=True):
        step = partial(rmsprop, lr=ALPHA, beta=BETA)
        edited, success, steps = textbook_edit(
            network, names_of(network, layers), step, images[[index]], label[None], MAX_STEPS
        )
        rows.append((success, steps, int((predict(edited, images) != labels).sum())))
    assert max(steps for _, steps, _ in rows) > 1
    editor = Editor(RMSProp(ALPHA, BETA), MAX_STEPS)
    for settings in (ScoringSettings(), ScoringSettings.plain()):
        evaluator = EditEvaluator(
            SplitNetwork(network, layers), editor, loader(images, labels), 12, torch.device("cpu"), scoring=settings
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*batching rule")
            base = evaluator.measure_base()
            outcomes = evaluator.score([(image,) for image in images], *edits)
        assert torch.equal(base.predictions, before)
        ours = zip(outcomes.success.tolist(), outcomes.num_steps.tolist(), outcomes.errors_after.tolist(), strict=True)
        assert list(ours) == rows


class TwoEdits(EditableTrainingTask):
    """Asks for given edits in each batch."""

    pairs: list[tuple[int, int]]

    def draw_edits(self, batch_size: int, num_classes: int, batch_idx: int) -> Edits:
        indices, labels = zip(*self.pairs, strict=True)
        return Edits(torch.tensor(indices), torch.tensor(labels))


@architectures
@pytest.mark.parametrize("num_edits", [1, 2])
def test_training_step_is_that_of_the_unrolled_recursion(build: Build, layers: str, size: int, num_edits: int) -> None:
    network = make(build, layers)
    images, labels = images_and_labels(4, size)
    predictions = predictions_after_a_training_step(network, images).tolist()
    pairs = [(index, (predictions[index] + 1 + index) % CLASSES) for index in range(num_edits)]
    plain = copy.deepcopy(network)
    constants = {"learning_rate": ALPHA, "decay": BETA, "max_steps": MAX_STEPS, "c_edit": 0.7, "c_loc": 1.3}
    with sdpa_kernel(SDPBackend.MATH):
        expected, steps = editable_training_loss(plain, names_of(plain, layers), images, labels, pairs, **constants)
        expected["loss"].backward()
    assert max(steps) > 1

    editor = Editor(RMSProp(ALPHA, BETA), MAX_STEPS).double()
    task = TwoEdits(network, editor, [layers], c_edit=0.7, c_loc=1.3, edits_per_batch=num_edits).train()
    task.pairs = pairs
    task.log_training = lambda values, number: None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*batching rule")
        loss = task.training_step((images, labels), 0)
    loss.backward()
    torch.testing.assert_close(loss, expected["loss"])
    ours, theirs = ({name: param.grad for name, param in each.named_parameters()} for each in (network, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@architectures
@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_mixed_precision(build: Build, layers: str, size: int, make_trainer: MakeTrainer) -> None:
    """The loss of a step in bfloat16 is that in float32 up to precision, and the step reaches every parameter."""
    network = make(build, layers).float()
    images, labels = images_and_labels(8, size)
    with torch.no_grad():
        expected = cross_entropy(copy.deepcopy(network).train()(images.float()), labels)
    task = EditableTrainingTask(network, Editor(RMSProp(ALPHA, BETA), MAX_STEPS), [layers], edits_per_batch=2)
    values: dict[str, Tensor] = {}
    task.log_training = lambda terms, number: values.update(terms)
    before = copy.deepcopy(network.state_dict())
    trainer = make_trainer(precision="bf16-mixed", max_steps=1)
    trainer.fit(task, loader(images.float(), labels))
    torch.testing.assert_close(values["loss_base"].float().cpu(), expected, rtol=0.05, atol=0.05)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert [name for name, param in network.named_parameters() if torch.equal(param, before[name])] == []
