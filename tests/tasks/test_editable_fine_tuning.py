import copy

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from torch import nn
from torch.func import functional_call

from editable.data import DigitsDataModule
from editable.data.edits.edit_streams import Edits
from editable.editing import Editor, RMSProp
from editable.errors import UserError
from editable.models import add_extra_layer
from editable.tasks import EditableFineTuningTask
from tests.tasks.reference import LAYERS, NUM_CLASSES, images_and_labels, kl_divergence, small_network, unrolled_edit

ALPHA, BETA, MAX_STEPS = 0.01, 0.4, 4
NAMES = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
TAIL = [*LAYERS, "7"]


class FixedEdits(EditableFineTuningTask):
    """Asks for given edits in each batch: pairs of a position and a label."""

    pairs = ((0, 0),)

    def draw_edits(self, batch_size, num_classes, batch_idx):
        return Edits(*torch.tensor(self.pairs).T)


def make_editor():
    return Editor(RMSProp(ALPHA, BETA, learn_learning_rate=True, learn_decay=True), MAX_STEPS).double()


def make_task(network, **settings):
    return FixedEdits(network, make_editor(), LAYERS, **settings)


def moved(task):
    """Let the network be another one than its original, as after some training; return it."""
    other = small_network(seed=5)
    with torch.no_grad():
        for param, target in zip(task.network.parameters(), other.parameters(), strict=True):
            if param.requires_grad:
                param.lerp_(target, 0.1)
    return task.network


@pytest.mark.parametrize(
    ("statistics", "trainable", "c_labels"),
    [("batch", ["all"], 0.0), ("batch", TAIL, 0.4), ("running", ["all"], 0.4), ("running", TAIL, 0.0)],
)
def test_loss_and_all_gradients_are_those_of_the_formula(statistics, trainable, c_labels):
    original = small_network()
    task = make_task(
        copy.deepcopy(original), c_edit=0.7, c_loc=1.3, c_labels=c_labels, edits_per_batch=2, statistics=statistics,
        trainable_layers=trainable,
    ).train()  # fmt: skip
    network = moved(task)
    images, labels = images_and_labels(6)
    plain = copy.deepcopy(network).train(statistics == "batch")
    logits = plain(images)
    plain.eval()
    predictions = plain(images).argmax(dim=1).tolist()
    task.pairs = ((0, (predictions[0] + 1) % NUM_CLASSES), (1, (predictions[1] + 2) % NUM_CLASSES))
    edits = [unrolled_edit(plain, NAMES, images[i], label, ALPHA, BETA, MAX_STEPS) for i, label in task.pairs]
    assert max(steps for *_, steps in edits) > 0
    cross_entropy = -logits.log_softmax(dim=1)[range(len(labels)), labels].mean()
    base = kl_divergence(original.eval()(images).detach(), logits) + c_labels * cross_entropy
    edit = sum(loss for _, loss, _ in edits) / 2
    locality = sum(kl_divergence(logits.detach(), functional_call(plain, theta, images)) for theta, *_ in edits) / 2
    expected = base + 0.7 * edit + 1.3 * locality
    expected.backward()

    values = {}
    task.log_training = lambda terms, num_images: values.update(terms)
    loss = task.training_step((images, labels), 0)
    loss.backward()

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(values["loss_base"], base)
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        if ours.requires_grad:
            # Where a gradient is small, the derivative of g/√(s + ε) enlarges rounding by up to 1/√ε.
            torch.testing.assert_close(
                ours.grad, theirs.grad, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
            )
    torch.testing.assert_close(dict(network.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0)
    frozen = {name for name, param in network.named_parameters() if param.grad is None}
    assert frozen == (set() if trainable == ["all"] else {"0.weight", "0.bias", "1.weight", "1.bias"})
    for name, tensor in task.teacher.state_dict().items():
        assert torch.equal(tensor, original.state_dict()[name]), name


def test_on_running_statistics_an_untrained_network_has_no_base_loss_and_no_gradient_of_it():
    task = make_task(small_network(), c_edit=0, c_loc=0, statistics="running")
    images, labels = images_and_labels(5)
    logits, features = task.train().unedited_pass(images)
    task.base_loss(logits, features, (images, labels)).backward()
    for name, param in task.network.named_parameters():
        assert param.grad.abs().max() < 1e-14, name


def test_without_weight_on_edits_it_is_distillation_alone():
    task = make_task(small_network(), c_edit=0, c_loc=0)
    task.editor.edit_many = None  # would fail if called
    network = moved(task.train())
    images, labels = images_and_labels(5)
    expected = kl_divergence(task.teacher(images), copy.deepcopy(network)(images))
    values = {}
    task.log_training = lambda terms, num_images: values.update(terms)
    torch.testing.assert_close(task.training_step((images, labels), 0), expected)
    assert set(values) == {"loss", "error", "loss_base"}
    trained = {id(param) for group in task.parameter_groups() for param in group["params"]}
    assert trained == {id(param) for param in network.parameters()}


def test_original_is_neither_trained_nor_saved():
    task = make_task(small_network())
    state = task.state_dict()
    assert {name.partition(".")[0] for name in state} == {"network", "editor"}
    assert len([name for name in state if name.startswith("network.")]) == len(task.network.state_dict())
    params = {id(param) for param in task.parameters()}
    assert params.isdisjoint(id(param) for param in task.teacher.parameters())
    assert not any(param.requires_grad for param in task.teacher.parameters())
    assert not any(module.training for module in task.train().teacher.modules())


def test_learning_rates_by_group():
    network = add_extra_layer(small_network())
    rates = {"all": 1e-5, "extra_layer": 1e-3, "*.contract.bias": 1e-2}
    task = make_task(network, learning_rates=rates, editor_learning_rate=0.5, trainable_layers=["extra_layer", "0"])
    optimizer = task.configure_optimizers()["optimizer"]
    found = {
        name: group["lr"]
        for group in optimizer.param_groups
        for name, param in task.named_parameters()
        if any(param is member for member in group["params"])
    }
    assert found == {
        "network.0.weight": 1e-5,
        "network.0.bias": 1e-5,
        "network.7.extra_layer.expand.weight": 1e-3,
        "network.7.extra_layer.expand.bias": 1e-3,
        "network.7.extra_layer.contract.weight": 1e-3,
        "network.7.extra_layer.contract.bias": 1e-2,
        "editor.rule.log_learning_rate": 0.5,
        "editor.rule.logit_decay": 0.5,
    }
    (constants,) = [group for group in optimizer.param_groups if group["lr"] == 0.5]
    assert constants["weight_decay"] == 0


def digits_network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 10)
    )


@pytest.fixture
def fit(make_trainer, tmp_path):
    def run(max_epochs, folder, ckpt_path=None, seed=0):
        editor = Editor(RMSProp(1e-2, learn_learning_rate=True, learn_decay=True), 3)
        optimizer = torch.optim.Adam
        task = EditableFineTuningTask(digits_network(seed), editor, ["3"], edits_per_batch=2, optimizer=optimizer)
        checkpoint = ModelCheckpoint(tmp_path / folder, save_last=True, save_top_k=0)
        trainer = make_trainer(max_epochs=max_epochs, callbacks=[checkpoint], enable_checkpointing=True)
        torch.manual_seed(len(folder))  # what else the process draws must not matter
        data = DigitsDataModule(batch_size=32, train_limit=100, seed=3, validation_fraction=0.05)
        trainer.fit(task, data, ckpt_path=ckpt_path)
        return task.state_dict(), trainer.optimizers[0].state_dict()["state"]

    return run


def test_resumed_run_is_held_to_the_same_original_and_ends_bit_identical(fit, tmp_path):
    uninterrupted = fit(2, "uninterrupted")
    fit(1, "first")
    resumed = fit(2, "second", tmp_path / "first" / "last.ckpt")
    torch.testing.assert_close(resumed, uninterrupted, rtol=0, atol=0)
    assert not torch.equal(resumed[0]["network.0.weight"], digits_network(0)[0].weight)


def test_resuming_with_another_original_is_refused(fit, tmp_path):
    fit(1, "first")
    with pytest.raises(UserError, match="another network"):
        fit(2, "second", tmp_path / "first" / "last.ckpt", seed=1)


def fit_with_averages(make_trainer, network, layer, statistics):
    task = EditableFineTuningTask(network, Editor(RMSProp(1e-2), 1), [layer], 0.0, 0.0, statistics=statistics)
    average = StochasticWeightAveraging(swa_lrs=1e-5, swa_epoch_start=1)
    trainer = make_trainer(callbacks=[average], limit_train_batches=1, limit_val_batches=0)
    trainer.fit(task, DigitsDataModule(batch_size=32, train_limit=100))
    return trainer, average


def test_statistics_that_are_to_stay_are_not_averaged_anew(make_trainer):
    with pytest.raises(UserError, match=r"statistics=running .* StochasticWeightAveraging .* take EMAWeightAveraging"):
        fit_with_averages(make_trainer, digits_network(0), "3", "running")


@pytest.mark.parametrize(
    ("network", "layer", "statistics"),
    [
        (digits_network(0), "3", "batch"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "1", "running"),
    ],
)
def test_other_statistics_may_be_averaged_anew(make_trainer, network, layer, statistics):
    trainer, average = fit_with_averages(make_trainer, network, layer, statistics)
    assert trainer.state.finished
    assert average.n_averaged > 0
    assert all(value.isfinite().all() for value in network.state_dict().values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rates": {"layer9": 1e-3}}, "layer9"),
        ({"learning_rates": {"3": 0.0}}, "learning_rates\\.3 must be positive, got 0.0"),
        ({"trainable_layers": ["layer9"]}, "layer9"),
        (
            {"learning_rates": {"0": 1e-3}, "trainable_layers": ["3"]},
            "a rate for '0', of which trainable_layers trains",
        ),
        ({"statistics": "runing"}, "statistics is 'runing', but must be one of batch, running"),
        ({"c_loc": -1.0}, "c_loc.*-1.0"),
        ({"c_labels": -0.5}, "c_labels.*-0.5"),
    ],
)
def test_mistakes_end_in_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        make_task(small_network(), **settings)
