import copy
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.func import functional_call
from torch.optim import SGD

from editable.data import DigitsDataModule
from editable.data.edits.edit_streams import Edits
from editable.editing import GD, Editor, RMSProp
from editable.errors import UserError
from editable.models import cifar_resnet
from editable.tasks import ClassificationTask, EditableTrainingTask
from tests.tasks.reference import (
    LAYERS,
    NUM_CLASSES,
    cross_entropy,
    editable_training_loss,
    images_and_labels,
    kl_divergence,
    loader,
    predictions_after_a_training_step,
    small_network,
    unrolled_edit,
)

ALPHA, BETA, MAX_STEPS = 0.01, 0.4, 4
NAMES = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
# steps of a task are also called without a trainer
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log..` but the `self.trainer` reference")


class FixedEdits(EditableTrainingTask):
    """Asks for given edits in each batch: pairs of a position and a label."""

    pairs = ((0, 0),)

    def draw_edits(self, batch_size, num_classes, batch_idx):
        return Edits(*torch.tensor(self.pairs).T)


def make_editor(dtype=torch.float64, max_steps=MAX_STEPS):
    return Editor(RMSProp(ALPHA, BETA, learn_learning_rate=True, learn_decay=True), max_steps).to(dtype)


def make_task(network, cls=EditableTrainingTask, dtype=torch.float64, max_steps=MAX_STEPS, **settings):
    return cls(network, make_editor(dtype, max_steps), LAYERS, **settings)


def wanted(network, images, *ranks):
    """Edits of images 0, 1, …: for image i the label that lies ``ranks[i]`` places above the predicted one."""
    predictions = predictions_after_a_training_step(network, images).tolist()
    return tuple((i, (predictions[i] + rank) % NUM_CLASSES) for i, rank in enumerate(ranks))


def logged(task):
    """Collect what the task logs in training steps."""
    values = {}
    task.log_training = lambda terms, num_images: values.update(terms)
    return values


def test_labels_of_the_base_term_are_smoothed():
    """(1 − s) of the loss with the label itself, and s of that with all labels alike."""
    network = small_network()
    images, labels = images_and_labels(6)
    log_p = copy.deepcopy(network)(images).log_softmax(dim=-1)
    task = make_task(network, label_smoothing=0.2)
    values = logged(task)
    task.training_step((images, labels), 0)
    own = -log_p[torch.arange(6), labels].mean()
    torch.testing.assert_close(values["loss_base"], 0.8 * own + 0.2 * -log_p.mean())


@pytest.mark.parametrize("detach_base", [True, False])
@pytest.mark.parametrize(("ranks", "share"), [((1,), "whole"), ((1, 0, 2), "whole"), ((1, 0, 2), "own")])
def test_loss_and_all_gradients_are_those_of_the_unrolled_recursion(ranks, share, detach_base):
    network = small_network()
    images, labels = images_and_labels(6)
    plain = copy.deepcopy(network)
    log_alpha = torch.tensor(math.log(ALPHA), dtype=torch.float64, requires_grad=True)
    logit_beta = torch.tensor(math.log(BETA / (1 - BETA)), dtype=torch.float64, requires_grad=True)
    weights = {"c_edit": 0.7, "c_loc": 1.3}
    pairs = wanted(network, images, *ranks)
    expected, steps = editable_training_loss(
        plain,
        NAMES,
        images,
        labels,
        pairs,
        learning_rate=log_alpha.exp(),
        decay=1 / (1 + (-logit_beta).exp()),
        max_steps=MAX_STEPS,
        detach_base=detach_base,
        own=share == "own",
        **weights,
    )
    assert max(steps) > 1, "the test needs an edit whose decay matters"
    expected["loss"].backward()

    task = make_task(
        network,
        FixedEdits,
        edits_per_batch=len(ranks),
        locality_share=share,
        detach_base=detach_base,
        **weights,
    )
    task.pairs = pairs
    task.train()
    values = logged(task)
    loss = task.training_step((images, labels), 0)
    loss.backward()

    torch.testing.assert_close(loss, expected["loss"])
    for ours, theirs in {"loss": "loss", "loss_base": "base", "loss_edit": "edit", "loss_locality": "locality"}.items():
        torch.testing.assert_close(values[ours], expected[theirs], msg=ours)
    assert values["num_steps"].item() == pytest.approx(sum(steps) / len(steps))
    # Where a gradient is small, the derivative of g/√(s + ε) enlarges rounding by up to 1/√ε.
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )
    rule = task.editor.rule
    torch.testing.assert_close(rule.log_learning_rate.grad, log_alpha.grad, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(rule.logit_decay.grad, logit_beta.grad, rtol=1e-6, atol=1e-8)
    assert logit_beta.grad != 0
    torch.testing.assert_close(dict(network.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0)


def test_edit_and_locality_on_a_part_of_the_batch():
    network = small_network()
    images, labels = images_and_labels(7)
    pairs = wanted(network, images, 1)
    plain = copy.deepcopy(network).train()
    logits = plain(images)
    plain.eval()
    params, edit_loss, steps = unrolled_edit(plain, NAMES, images[0], pairs[0][1], ALPHA, BETA, MAX_STEPS)
    assert steps > 1
    locality = kl_divergence(logits[:3].detach(), functional_call(plain, params, images[:3]))
    expected = cross_entropy(logits, labels) + 0.7 * edit_loss + 1.3 * locality
    expected.backward()

    task = make_task(network, FixedEdits, c_edit=0.7, c_loc=1.3, locality_fraction=0.4)  # 2.8 of 7 images: 3
    task.pairs = pairs
    values = logged(task.train())
    task.training_step((images, labels), 0).backward()
    torch.testing.assert_close(values["loss"], expected)
    torch.testing.assert_close(values["loss_locality"], locality)
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-8)


def test_edits_are_drawn_from_the_part_that_locality_sees():
    task = make_task(small_network(), edits_per_batch=2, locality_fraction=0.25)
    seen = {index for batch_idx in range(50) for index in drawn(task, batch_idx=batch_idx)[0]}
    assert seen == {0, 1, 2, 3}  # of 16
    crowded = make_task(small_network(), edits_per_batch=3, locality_fraction=0.01)
    assert {index for batch_idx in range(50) for index in drawn(crowded, batch_idx=batch_idx)[0]} == {0, 1, 2}


@pytest.mark.parametrize("edits_per_batch", [1, 2])
def test_channels_last_is_the_same_training_step(edits_per_batch):
    losses, gradients = [], []
    for channels_last in (False, True):
        network, batch = small_network(), images_and_labels(6)
        task = make_task(
            network, FixedEdits, c_edit=0.7, c_loc=1.3, edits_per_batch=edits_per_batch, channels_last=channels_last
        )
        task.pairs = wanted(network, batch[0], *(1, 2)[:edits_per_batch])
        assert network[3].weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        loss = task.train().training_step(batch, 0)
        loss.backward()
        losses.append(loss)
        gradients.append([param.grad for param in network.parameters()])
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_without_weight_on_its_terms_it_has_exactly_the_gradients_of_the_baseline():
    network = small_network()
    baseline, batch = copy.deepcopy(network), images_and_labels(6)
    ClassificationTask(baseline).training_step(batch, 0).backward()
    task = make_task(network, FixedEdits, c_edit=0.0, c_loc=0.0)
    task.pairs = wanted(network, batch[0], 1)
    task.training_step(batch, 0).backward()
    for ours, theirs in zip(network.parameters(), baseline.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_before_the_first_edit_epoch_training_is_that_of_the_baseline(make_trainer):
    """One epoch trains the same weights bit for bit, and no constant of the editor; the next makes edits."""

    def fit(task, epochs):
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(task, DigitsDataModule(validation_fraction=0))
        return trainer.callback_metrics

    def network():
        torch.manual_seed(0)
        return cifar_resnet(num_classes=10, width=4, layers=(1, 1, 1, 1), in_channels=1)

    def task(first):
        editor = make_editor(torch.float32)
        return EditableTrainingTask(network(), editor, ["layer3"], c_loc=1.0, first_edit_epoch=first)

    baseline, late = ClassificationTask(network()), task(1)
    fit(baseline, 1)
    metrics = fit(late, 1)
    torch.testing.assert_close(late.network.state_dict(), baseline.network.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(late.editor.state_dict(), make_editor(torch.float32).state_dict(), rtol=0, atol=0)
    assert not [name for name in metrics if "loss_edit" in name or "locality" in name]
    later = task(1)
    metrics = fit(later, 2)
    assert {"train_loss_edit", "train_loss_locality", "train_num_steps"} <= metrics.keys()
    assert later.editor.rule.decay != make_editor(torch.float32).rule.decay


def test_before_the_first_edit_epoch_the_constants_have_gradients_of_zero():
    """For data parallelism, which waits for a gradient of each; the network's are those of the baseline."""
    network = small_network()
    baseline, batch = copy.deepcopy(network), images_and_labels(6)
    ClassificationTask(baseline).training_step(batch, 0).backward()
    task = make_task(network, first_edit_epoch=1)
    task.training_step(batch, 0).backward()
    assert [param.grad.item() for param in task.editor.parameters()] == [0, 0]
    for ours, theirs in zip(network.parameters(), baseline.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("edits_per_batch", [1, 3])
def test_running_statistics_advance_once_in_a_step(edits_per_batch):
    network = small_network()
    plain, batch = copy.deepcopy(network).train(), images_and_labels(6)
    plain(batch[0])
    task = make_task(network, edits_per_batch=edits_per_batch).train()
    task.training_step(batch, 0).backward()
    buffers = dict(network.named_buffers())
    assert buffers["1.num_batches_tracked"] == 1
    torch.testing.assert_close(buffers, dict(plain.named_buffers()), rtol=0, atol=0)
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("cause", ["label is the prediction", "max_steps is 0"])
def test_edit_of_no_step_gives_the_constants_gradients_of_zero(cause):
    network, batch = small_network(), images_and_labels(6)
    task = make_task(network, FixedEdits, max_steps=MAX_STEPS if cause.startswith("label") else 0)
    task.pairs = wanted(network, batch[0], 0 if cause.startswith("label") else 1)
    values = logged(task)
    task.training_step(batch, 0).backward()
    assert values["num_steps"] == 0
    assert values["success_rate"] == (1 if cause.startswith("label") else 0)
    assert [param.grad.item() for param in task.editor.parameters()] == [0.0, 0.0]
    assert all(param.grad is not None for param in network.parameters())


def test_gradients_of_constants_add_up_over_batches():
    """After an edit of no step, whose zero gradients must not share memory."""
    gradients = []
    for accumulate in (False, True):
        network, batch = small_network(), images_and_labels(6)
        task = make_task(network, FixedEdits).train()
        task.pairs = wanted(network, batch[0], 0)
        loss = task.training_step(batch, 0)
        if accumulate:
            loss.backward()
        task.pairs = wanted(network, batch[0], 1)
        task.training_step(batch, 1).backward()
        gradients.append([param.grad.item() for param in task.editor.parameters()])
    assert gradients[0] == pytest.approx(gradients[1])
    assert gradients[0][0] != pytest.approx(gradients[0][1])


def test_fit_trains_network_and_constants_and_logs_every_term(make_trainer, tmp_path):
    network, data = small_network(torch.float32), loader(*images_and_labels(24, torch.float32))
    task = make_task(network, dtype=torch.float32, c_edit=1.0, c_loc=1.0, edits_per_batch=2)
    before = copy.deepcopy(task.state_dict())
    trainer = make_trainer(max_epochs=2, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    trainer.fit(task, data, data)
    terms = ["loss", "error", "loss_base", "loss_edit", "loss_locality", "success_rate", "num_steps"]
    assert {f"train_{term}" for term in terms} <= trainer.callback_metrics.keys()
    assert {"val_loss", "val_error"} <= trainer.callback_metrics.keys()
    values = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert all(map(math.isfinite, values.values()))
    total = values["train_loss_base"] + values["train_loss_edit"] + values["train_loss_locality"]
    assert values["train_loss"] == pytest.approx(total, rel=1e-5)
    assert 0 < values["train_num_steps"] <= MAX_STEPS
    logit, log_rate = task.editor.rule.logit_decay.item(), task.editor.rule.log_learning_rate.item()
    assert values["editor_decay"] == pytest.approx(1 / (1 + math.exp(-logit)))
    assert values["editor_learning_rate"] == pytest.approx(math.exp(log_rate))
    after = task.state_dict()
    assert not [name for name in after if after[name].is_floating_point() and torch.equal(after[name], before[name])]
    assert "editor_decay" in (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()


def test_constants_that_are_not_learnt_are_not_logged(make_trainer):
    task = EditableTrainingTask(small_network(torch.float32), Editor(GD(0.1)), LAYERS)
    trainer = make_trainer()
    trainer.fit(task, loader(*images_and_labels(8, torch.float32)))
    assert not [name for name in trainer.callback_metrics if name.startswith("editor_")]


def test_constants_have_no_weight_decay():
    task = make_task(small_network(), optimizer=partial(SGD, lr=0.1, weight_decay=0.5))
    network_group, constants = task.configure_optimizers()["optimizer"].param_groups
    assert network_group["weight_decay"] == 0.5
    assert network_group["params"] == list(task.network.parameters())
    assert constants["weight_decay"] == 0.0
    assert constants["params"] == list(task.editor.parameters())


def drawn(task, epoch=0, rank=0, batch_idx=0, batch_size=16):
    task.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    indices, labels = task.draw_edits(batch_size, 10, batch_idx)
    return indices.tolist(), labels.tolist()


def test_draw_depends_on_seed_epoch_batch_and_rank_alone():
    def task(seed=0):
        return make_task(small_network(), edits_per_batch=5, edit_seed=seed)

    torch.manual_seed(1)
    first = drawn(task(), epoch=2, batch_idx=3, rank=1)
    torch.manual_seed(2)
    other = task()
    drawn(other, epoch=1)
    assert drawn(other, epoch=2, batch_idx=3, rank=1) == first
    assert drawn(task(seed=1), epoch=2, batch_idx=3, rank=1) != first
    assert drawn(other, epoch=3, batch_idx=3, rank=1) != first
    assert drawn(other, epoch=2, batch_idx=2, rank=1) != first
    assert drawn(other, epoch=2, batch_idx=3, rank=0) != first


def test_drawn_labels_and_images_are_uniform():
    task = make_task(small_network(), edits_per_batch=4)
    batches, chosen, labels = 1000, torch.zeros(16), torch.zeros(10)
    for batch_idx in range(batches):
        indices, new_labels = drawn(task, batch_idx=batch_idx)
        assert len(set(indices)) == 4, "inputs are drawn without replacement"
        chosen[indices] += 1
        for label in new_labels:
            labels[label] += 1
    # Pearson's χ² with 9 degrees of freedom (labels) and 15 (images): the 99.9 % quantiles are 27.9 and 37.7.
    for counts, quantile in ((labels, 27.9), (chosen, 37.7)):
        expected = batches * 4 / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < quantile


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"c_edit": -0.1}, "c_edit must be at least 0, got -0.1"),
        ({"c_loc": -1.0}, "c_loc must be at least 0, got -1.0"),
        ({"edits_per_batch": 0}, "edits_per_batch must be at least 1, got 0"),
        ({"first_edit_epoch": -1}, "first_edit_epoch must be at least 0, got -1"),
        ({"locality_fraction": 0.0}, r"locality_fraction must be in \(0, 1\], got 0.0"),
        ({"locality_share": "Own"}, "locality_share is 'Own', but must be one of whole, own"),
        ({"locality_fraction": 1.5}, r"locality_fraction must be in \(0, 1\], got 1.5"),
    ],
)
def test_values_out_of_range_are_user_errors(settings, message):
    with pytest.raises(UserError, match=message):
        make_task(small_network(), **settings)


def test_more_edits_than_images_in_the_batch_is_a_user_error(make_trainer):
    task = make_task(small_network(torch.float32), dtype=torch.float32, edits_per_batch=9)
    with pytest.raises(UserError, match="is 9, but must be from 1 to 8"):
        make_trainer().fit(task, loader(*images_and_labels(8, torch.float32)))


def test_unknown_layer_is_a_user_error():
    with pytest.raises(UserError, match="no parameter of Sequential matches 'layer3'"):
        EditableTrainingTask(small_network(), make_editor(), ["layer3"])


def test_sharding_strategy_is_refused():
    task = make_task(small_network())
    task.trainer = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(UserError, match=r"FSDPStrategy does not support .* use strategy=ddp"):
        task.on_fit_start()


class Counter(Callback):
    """Counts what was computed."""

    batches = 0

    def on_train_batch_start(self, *args):
        self.batches += 1

    on_validation_batch_start = on_train_batch_start


@pytest.mark.parametrize("what", ["network", "network in place", "layer", "task"])
def test_compiled_network_is_refused_before_anything_is_computed(make_trainer, what):
    network, layers = small_network(torch.float32), LAYERS
    if what == "network":
        network, layers = torch.compile(network), ["all"]
    elif what == "network in place":
        network.compile()
    elif what == "layer":
        network[0] = torch.compile(network[0])
    task = EditableTrainingTask(network, make_editor(torch.float32), layers)
    counter, data = Counter(), loader(*images_and_labels(8, torch.float32))
    trainer = make_trainer(callbacks=[counter], num_sanity_val_steps=2)
    with pytest.raises(UserError, match=r"compiled|torch\.compile"):
        trainer.fit(torch.compile(task) if what == "task" else task, data, data)
    assert counter.batches == 0


class Spy(Editor):
    """Notes the conditions of the inner loop."""

    def edit_many(self, forward, params, inputs, targets, differentiable=False):
        self.seen = set()

        def spied(features, current):
            logits = forward(features, current)
            tensors = (*features, *current.values(), logits)
            self.seen.add((frozenset(tensor.dtype for tensor in tensors), torch.is_autocast_enabled("cpu")))
            return logits

        return super().edit_many(spied, params, inputs, targets, differentiable)


class Gradients(Callback):
    """Keeps the gradients of the last step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        grads = {name: param.grad for name, param in pl_module.named_parameters() if param.requires_grad}
        self.values = {name: grad.clone() for name, grad in grads.items()}


@pytest.mark.parametrize("edits_per_batch", [1, 3])
def test_mixed_precision_trains_with_the_inner_loop_in_float32(make_trainer, edits_per_batch):
    def gradients(precision, c):
        network = small_network(torch.float32)
        images, labels = images_and_labels(16, torch.float32)
        editor = Spy(RMSProp(ALPHA, BETA, learn_learning_rate=True, learn_decay=True), MAX_STEPS)
        task = FixedEdits(network, editor, LAYERS, c_edit=c, c_loc=c, edits_per_batch=edits_per_batch)
        task.pairs = wanted(network, images, *(1, 2, 3)[:edits_per_batch])
        kept = Gradients()
        make_trainer(precision=precision, callbacks=[kept]).fit(task, loader(images, labels, 16))
        assert not c or editor.seen == {(frozenset({torch.float32}), False)}
        return kept.values

    exact, ours = (
        {name: grad - baseline.get(name, 0.0) for name, grad in gradients(precision, 10.0).items()}
        for precision in ("32-true", "bf16-mixed")
        for baseline in [gradients(precision, 0.0)]
    )
    for name, expected in exact.items():
        assert ours[name].dtype == torch.float32
        # The part of the gradient that is due to the edit must be there, but for rounding to eight bits.
        tolerance = 0.25 if name.startswith("network") else 1.0
        assert (ours[name] - expected).norm() <= tolerance * expected.norm(), name


@pytest.mark.parametrize("network", ["small", "resnet"])
def test_resumed_training_is_bit_identical_to_uninterrupted(make_trainer, tmp_path, network):
    def make():
        torch.manual_seed(0)
        net = cifar_resnet(width=4, layers=[1, 1, 1, 1], in_channels=1) if network == "resnet" else digits_network()
        editor = Editor(RMSProp(1e-2, learn_learning_rate=True, learn_decay=True), 3)
        layers = ["layer3"] if network == "resnet" else ["3"]
        task = EditableTrainingTask(net, editor, layers, edits_per_batch=2)
        return task, DigitsDataModule(batch_size=32, train_limit=100, seed=3, validation_fraction=0.05)

    def fit(max_epochs, folder, ckpt_path=None):
        task, data = make()
        checkpoint = ModelCheckpoint(tmp_path / folder, save_last=True, save_top_k=0)
        trainer = make_trainer(max_epochs=max_epochs, callbacks=[checkpoint], enable_checkpointing=True)
        torch.manual_seed(len(folder))  # what else the process draws must not matter
        trainer.fit(task, data, ckpt_path=ckpt_path)
        return task.state_dict(), trainer.optimizers[0].state_dict()

    uninterrupted = fit(2, "uninterrupted")
    fit(1, "first")
    content = torch.load(tmp_path / "first" / "last.ckpt", weights_only=True)
    assert {"network.0.weight" if network == "small" else "network.conv1.weight", "editor.rule.logit_decay"} <= set(
        content["state_dict"]
    )
    resumed = fit(2, "second", tmp_path / "first" / "last.ckpt")
    torch.testing.assert_close(resumed[0], uninterrupted[0], rtol=0, atol=0)
    torch.testing.assert_close(resumed[1]["state"], uninterrupted[1]["state"], rtol=0, atol=0)
    assert resumed[1]["state"][0]["step"] == 2 * (100 // 32)
    assert resumed[0]["editor.rule.logit_decay"] != 0.0, "the decay should have been trained"


def digits_network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 10)
    )
