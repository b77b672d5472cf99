import copy
from functools import partial

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torch.optim.lr_scheduler import ReduceLROnPlateau as TorchPlateau

from editable.errors import UserError
from editable.tasks import ClassificationTask
from tests.tasks.reference import cross_entropy, images_and_labels, loader, small_network

# steps of a task are also called without a trainer
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log..` but the `self.trainer` reference")


class Data(LightningDataModule):
    """Twenty images of a data set that says how many classes it has."""

    def __init__(self, num_classes, labels=None):
        super().__init__()
        self.num_classes = num_classes
        self.images, drawn = images_and_labels(20, torch.float32)
        self.labels = drawn if labels is None else labels

    def train_dataloader(self):
        return loader(self.images, self.labels)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def test_loss_and_gradients_are_those_of_plain_torch():
    network = small_network()
    images, labels = images_and_labels(8)
    plain = copy.deepcopy(network).train()
    expected = cross_entropy(plain(images), labels)
    expected.backward()
    task = ClassificationTask(network)
    loss = task.training_step((images, labels), 0)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_fit_takes_the_steps_of_a_plain_loop_and_logs(make_trainer):
    network = small_network(torch.float32)
    plain = copy.deepcopy(network).train()
    images, labels = images_and_labels(16, torch.float32)
    val_images, val_labels = images_and_labels(11, torch.float32, seed=2)
    optimizer = SGD(plain.parameters(), lr=0.1)
    losses, wrong = [], 0
    for start in (0, 8):
        logits = plain(images[start : start + 8])
        losses.append(cross_entropy(logits, labels[start : start + 8]))
        wrong += (logits.argmax(1) != labels[start : start + 8]).sum().item()
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    task = ClassificationTask(network, optimizer=partial(SGD, lr=0.1))
    trainer = make_trainer()
    trainer.fit(task, loader(images, labels), loader(val_images, val_labels))
    torch.testing.assert_close(network.state_dict(), plain.state_dict())
    val_logits = plain.eval()(val_images)
    expected = {
        "train_loss": torch.stack(losses).mean(),
        "train_loss_step": losses[-1],
        "train_error": torch.tensor(wrong / 16),
        "val_loss": cross_entropy(val_logits, val_labels),
        "val_error": (val_logits.argmax(1) != val_labels).float().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(trainer.callback_metrics[name], value.detach(), msg=name)


def test_test_error_is_a_fraction_of_all_images(make_trainer):
    network = small_network(torch.float32)
    images, labels = images_and_labels(19, torch.float32)
    (metrics,) = make_trainer(inference_mode=True).test(
        ClassificationTask(network), loader(images, labels), verbose=False
    )
    logits = network.eval()(images)
    assert metrics["test_error"] == pytest.approx((logits.argmax(1) != labels).float().mean().item())
    assert metrics["test_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)


def test_predict_returns_probabilities(make_trainer):
    network = small_network(torch.float32)
    images, labels = images_and_labels(19, torch.float32)
    batches = make_trainer(inference_mode=True).predict(ClassificationTask(network), loader(images, labels))
    exponentials = network.eval()(images).exp()
    torch.testing.assert_close(torch.cat(batches), (exponentials / exponentials.sum(1, keepdim=True)).detach())


def test_the_default_optimizer_is_adam_without_a_scheduler():
    network = small_network()
    configured = ClassificationTask(network).configure_optimizers()
    assert configured.keys() == {"optimizer"}
    assert type(configured["optimizer"]) is torch.optim.Adam
    assert configured["optimizer"].defaults["lr"] == 1e-3
    assert configured["optimizer"].param_groups[0]["params"] == list(network.parameters())


def test_frozen_parameters_are_not_handed_to_the_optimizer():
    network = small_network()
    network[0].requires_grad_(False)
    groups = ClassificationTask(network).configure_optimizers()["optimizer"].param_groups
    assert groups[0]["params"] == list(network.parameters())[2:]


@pytest.mark.parametrize(("interval", "power"), [("epoch", 3), ("step", 9)])
def test_scheduler_advances_by_epoch_or_by_step(make_trainer, interval, power):
    task = ClassificationTask(
        small_network(torch.float32),
        optimizer=partial(SGD, lr=1.0),
        lr_scheduler=partial(StepLR, step_size=1, gamma=0.5),
        lr_scheduler_interval=interval,
    )
    trainer = make_trainer(max_epochs=3)
    trainer.fit(task, loader(*images_and_labels(24, torch.float32)))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5**power


def test_scheduler_gets_the_optimizer(make_trainer):
    task = ClassificationTask(
        small_network(torch.float32), lr_scheduler=lambda optimizer: LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    )
    trainer = make_trainer(max_epochs=3)
    trainer.fit(task, loader(*images_and_labels(8, torch.float32)))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)


@pytest.mark.parametrize(
    ("kind", "settings", "watched"),
    [(ReduceLROnPlateau, {"monitor": "train_loss"}, "train_loss"), (TorchPlateau, {}, "val_loss")],
    ids=["lightning", "torch"],
)
def test_plateau_scheduler_watches_its_own_quantity_or_the_validation_loss(make_trainer, kind, settings, watched):
    seen = []

    class Recorder(kind):
        def step(self, metrics, *args, **kwargs):
            seen.append(float(metrics))
            super().step(metrics, *args, **kwargs)

    task = ClassificationTask(small_network(torch.float32), lr_scheduler=lambda opt: Recorder(opt, **settings))
    trainer = make_trainer()
    trainer.fit(
        task, loader(*images_and_labels(8, torch.float32)), loader(*images_and_labels(8, torch.float32, seed=3))
    )
    assert seen == [trainer.callback_metrics[watched].item()]
    assert trainer.callback_metrics["val_loss"] != trainer.callback_metrics["train_loss"]


def test_plateau_scheduler_without_its_quantity_is_an_error(make_trainer):
    task = ClassificationTask(small_network(torch.float32), lr_scheduler=partial(ReduceLROnPlateau, monitor="nothing"))
    with pytest.raises(MisconfigurationException, match="nothing"):
        make_trainer().fit(task, loader(*images_and_labels(8, torch.float32)))


def test_weights_are_loaded(tmp_path):
    trained, network = small_network(seed=1), small_network(seed=2)
    torch.save(trained.state_dict(), tmp_path / "trained.pt")
    task = ClassificationTask(network, weights=str(tmp_path / "trained.pt"))
    assert task.network is network
    torch.testing.assert_close(network.state_dict(), trained.state_dict(), rtol=0, atol=0)


def test_missing_weights_are_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"there is no weights file at '.*missing\.pt'"):
        ClassificationTask(small_network(), weights=str(tmp_path / "missing.pt"))


@pytest.mark.parametrize("other", ["architecture", "classes"])
def test_checkpoint_of_another_network_is_refused(make_trainer, tmp_path, other):
    images, labels = images_and_labels(8, torch.float32)
    trainer = make_trainer()
    trainer.fit(ClassificationTask(small_network(torch.float32)), loader(images, labels))
    trainer.save_checkpoint(tmp_path / "trained.ckpt")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(72, 4))
    network = linear if other == "architecture" else small_network(torch.float32, num_classes=6)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UserError, match="the weights in the checkpoint do not fit") as error:
        make_trainer().test(ClassificationTask(network), loader(images, labels), ckpt_path=tmp_path / "trained.ckpt")
    assert "\n" not in str(error.value)
    if other == "classes":
        assert "num_classes=4" in str(error.value)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_checkpoint_round_trip(make_trainer, tmp_path):
    images, labels = images_and_labels(8, torch.float32)
    trained, fresh = small_network(torch.float32), small_network(torch.float32, seed=5)
    trainer = make_trainer()
    trainer.fit(ClassificationTask(trained), loader(images, labels))
    trainer.save_checkpoint(tmp_path / "trained.ckpt")
    make_trainer().test(
        ClassificationTask(fresh), loader(images, labels), ckpt_path=tmp_path / "trained.ckpt", verbose=False
    )
    torch.testing.assert_close(fresh.state_dict(), trained.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("label", "position"), [(4, 3), (-1, 19)])
@pytest.mark.parametrize("loop", ["fit", "validate", "test"])
def test_label_out_of_range_is_a_user_error(make_trainer, loop, label, position):
    labels = images_and_labels(20)[1]
    labels[position] = label
    with pytest.raises(UserError, match=rf"label {label}, but the network's 4 classes are 0 … 3"):
        getattr(make_trainer(), loop)(ClassificationTask(small_network(torch.float32)), Data(4, labels))


@pytest.mark.parametrize("loop", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("num_classes", [3, 7])
def test_other_number_of_classes_than_the_data_is_a_user_error(make_trainer, loop, num_classes):
    task = ClassificationTask(small_network(torch.float32, num_classes=num_classes))
    with pytest.raises(UserError, match=f"the data have 5 classes, but the network has {num_classes}"):
        getattr(make_trainer(), loop)(task, Data(5, torch.zeros(20, dtype=torch.int64)))


@pytest.mark.parametrize("loop", ["fit", "validate", "test", "predict"])
def test_data_module_with_as_many_classes_or_without_their_number_is_fine(make_trainer, loop):
    task = ClassificationTask(small_network(torch.float32))
    unknown = Data(4)
    del unknown.num_classes
    for data in (Data(4), unknown):
        trainer = make_trainer()
        getattr(trainer, loop)(task, data)
        assert trainer.state.finished


class NamedData(Data):
    """The same with names of its classes."""

    def __init__(self, classes):
        super().__init__(len(classes))
        self.classes = classes


@pytest.mark.parametrize("method", ["fit", "validate", "test"])
def test_checkpoints_know_their_classes_and_refuse_others(make_trainer, tmp_path, method):
    classes = ["car", "ship", "dog", "cat"]
    trainer = make_trainer(max_epochs=1)
    trainer.fit(ClassificationTask(small_network(torch.float32)), datamodule=NamedData(classes))
    path = tmp_path / "kept.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["classes"] == classes
    again = ClassificationTask(small_network(torch.float32))
    run = getattr(make_trainer(max_epochs=2), method)
    run(again, datamodule=NamedData(classes), ckpt_path=path, weights_only=True)
    with pytest.raises(UserError, match="class 1 is 'ship' there and 'dog' in the data"):
        getattr(make_trainer(max_epochs=2), method)(
            again, datamodule=NamedData(["car", "dog", "ship", "cat"]), ckpt_path=path, weights_only=True
        )
    del checkpoint["classes"]  # as an earlier version has left it
    torch.save(checkpoint, path)
    getattr(make_trainer(max_epochs=2), method)(
        again, datamodule=NamedData(["car", "dog", "ship", "cat"]), ckpt_path=path, weights_only=True
    )


@pytest.mark.parametrize("loop", ["fit", "test"])
def test_what_a_data_module_does_before_a_transfer_is_done(make_trainer, loop):
    class Shifting(Data):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            images, labels = batch
            seen.append(len(labels))
            return images, labels + 10

    seen: list[int] = []
    with pytest.raises(UserError, match=r"1[0-9]"):
        getattr(make_trainer(max_epochs=1), loop)(ClassificationTask(small_network(torch.float32)), Shifting(10))
    assert seen
