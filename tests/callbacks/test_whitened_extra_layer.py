"""An extra layer with whitened keys: the formula from the features themselves, what changes, and what is refused."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.callbacks import AppliedPatches, MomentSettings, WhitenedExtraLayer
from editable.data import DigitsDataModule
from editable.editing import Editor, EditPatch, RMSProp
from editable.errors import UserError
from editable.models import SplitNetwork, add_extra_layer
from editable.rewriting import Regularisation
from editable.tasks import ClassificationTask, EditableFineTuningTask

NUM_IMAGES = 300
NONE = Regularisation(epsilon=0.0)

UNREGULARISED = MomentSettings(num_images=10_000, regularisation=NONE)


def make_network(extra_layer: bool = True) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, stride=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(12, 10)
    )
    return add_extra_layer(network, hidden=256) if extra_layer else network


def training_images() -> Tensor:
    data = DigitsDataModule(augmentation="none")
    data.setup("fit")
    unaugmented = data.unaugmented_training_images()
    return torch.stack([torch.as_tensor(unaugmented[index][0]) for index in range(len(unaugmented))])


def images_of_test() -> Tensor:
    data = DigitsDataModule()
    data.setup("test")
    return torch.stack([torch.as_tensor(data.test_dataset[index][0]) for index in range(len(data.test_dataset))])


def features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network[:-1](images)


def whitened(
    make_trainer, regularisation: Regularisation | None = NONE, num_images: int = 10_000, cache: str | None = None
) -> nn.Module:
    network = make_network()
    callback = WhitenedExtraLayer(MomentSettings(num_images=num_images, regularisation=regularisation, cache=cache))
    make_trainer(callbacks=[callback], limit_test_batches=1).test(
        ClassificationTask(network), DigitsDataModule(), verbose=False
    )
    return network


def test_weights_are_multiplied_by_the_inverse_root_of_the_second_moment(make_trainer):
    """The root from the singular values of the features, H = USVᵀ: C^{-1/2} = √n V S⁻¹ Vᵀ, of all training images."""
    before, network = make_network(), whitened(make_trainer)
    h = features(before, training_images()).double()
    _, s, v = torch.linalg.svd(h, full_matrices=False)
    root = len(h) ** 0.5 * v.T @ torch.diag(1 / s) @ v
    expected = before[-1].extra_layer.expand.weight.double() @ root
    torch.testing.assert_close(network[-1].extra_layer.expand.weight.double(), expected, rtol=1e-4, atol=1e-5)
    for name, value in before.state_dict().items():
        if not name.endswith("expand.weight"):
            assert torch.equal(network.state_dict()[name], value), name


def test_regularisation_and_number_of_images(make_trainer):
    """Of fewer images another matrix; with ε far above every eigenvalue, W₁ as it was but for its scale."""
    weight = make_network()[-1].extra_layer.expand.weight
    some, more = (whitened(make_trainer, NONE, number)[-1].extra_layer.expand.weight for number in (50, NUM_IMAGES))
    assert not torch.allclose(some, more, rtol=0.01)
    flat = whitened(make_trainer, Regularisation(epsilon=1e6))[-1].extra_layer.expand.weight
    torch.testing.assert_close(
        functional.normalize(flat.flatten(), dim=0), functional.normalize(weight.flatten(), dim=0)
    )


def test_a_patch_of_an_edit_fits_in_a_prediction(make_trainer, tmp_path):
    """Whitened as in the test that the edit was made in: the patch finds the weights that it was made for."""
    network = whitened(make_trainer)
    bias = network[-1].extra_layer.contract.bias + 3 * (torch.arange(12) == 5)
    EditPatch.of(network, {"5.extra_layer.contract.bias": bias}).save(tmp_path / "edit.safetensors")
    with EditPatch.load(tmp_path / "edit.safetensors").applied(network), torch.no_grad():
        expected = network(images_of_test()).softmax(dim=1)
    assert not torch.allclose(network(images_of_test()).softmax(dim=1), expected, atol=0.01)
    callbacks = [
        WhitenedExtraLayer(UNREGULARISED),
        AppliedPatches([str(tmp_path / "edit.safetensors")]),
    ]
    task, trainer = ClassificationTask(make_network()), make_trainer(callbacks=callbacks)
    torch.testing.assert_close(torch.cat(trainer.predict(task, DigitsDataModule())), expected)
    callbacks = [
        WhitenedExtraLayer(UNREGULARISED),
        AppliedPatches([str(tmp_path / "edit.safetensors")]),
    ]
    (after,) = make_trainer(callbacks=callbacks).validate(ClassificationTask(make_network()), DigitsDataModule())
    (before,) = make_trainer().validate(ClassificationTask(make_network()), DigitsDataModule())
    assert before["val_loss"] != after["val_loss"]


def test_a_kept_second_moment_is_used_again(make_trainer, tmp_path):
    """The same W₁, bit for bit; with other images another moment is collected."""
    first = whitened(make_trainer, cache=str(tmp_path / "moments"))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "moments").iterdir()}
    assert files
    again = whitened(make_trainer, cache=str(tmp_path / "moments"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "moments").iterdir()} == files, "nothing is written"
    with pytest.warns(UserWarning, match="it is not used, but computed anew"):
        fewer = whitened(make_trainer, num_images=50, cache=str(tmp_path / "moments"))
    apart = whitened(make_trainer, num_images=50)
    weights = [network[-1].extra_layer.expand.weight for network in (first, again, fewer, apart)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], weights[3])
    assert not torch.equal(weights[0], weights[2])


def test_the_network_computes_what_it_did_before(make_trainer):
    images = training_images()[:20]
    with torch.no_grad():
        assert torch.equal(whitened(make_trainer)(images), make_network()(images))


def test_an_edit_reaches_other_images_less(make_trainer):
    """The same edits change the logits of other images by less than half as much."""
    images = training_images()[:60]
    changes = {}
    for name, network in {"plain": make_network(), "whitened": whitened(make_trainer)}.items():
        network.eval()
        split = SplitNetwork(network, ["extra_layer"])
        unedited = network(images)
        total = torch.zeros(())
        for index in range(5):
            label = (unedited[index : index + 1].argmax(dim=1) + 1) % 10
            sample = split.prefix(images[index : index + 1])
            result = Editor(RMSProp(1e-3), max_steps=50)(split.suffix, split.params, sample, label)
            assert result.success
            total += (split.suffix(split.prefix(images[10:]), result.params) - unedited[10:]).norm(dim=1).mean()
        changes[name] = total.item()
    assert changes["whitened"] < 0.5 * changes["plain"]


def test_a_fit_starts_whitened_and_a_resumed_one_goes_on(make_trainer, tmp_path):
    """The second epoch is trained from the checkpoint's W₁, not whitened again, which would raise: W₂ is no zero."""

    def task() -> EditableFineTuningTask:
        return EditableFineTuningTask(
            make_network(), Editor(RMSProp(1e-3), 2), ["extra_layer"], learning_rates={"extra_layer": 1e-2}
        )

    def fit(epochs: int, path: str | None = None) -> dict[str, Tensor]:
        trainer = make_trainer(
            callbacks=[WhitenedExtraLayer(UNREGULARISED)],
            max_epochs=epochs,
            limit_train_batches=3,
        )
        model = task()
        trainer.fit(model, DigitsDataModule(validation_fraction=0), ckpt_path=path)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return copy.deepcopy(model.network.state_dict())

    first, name = fit(1), "5.extra_layer.expand.weight"
    start = whitened(make_trainer)[-1].extra_layer.expand.weight
    assert (first[name] - start).norm() < 0.1 * start.norm() < (make_network().state_dict()[name] - start).norm()
    assert first["5.extra_layer.contract.weight"].any()
    second = fit(2, str(tmp_path / "1.ckpt"))
    assert 0 < (second[name] - first[name]).norm() < 0.1 * start.norm()


def test_a_network_is_whitened_once(make_trainer):
    """Two tests by one trainer, as after a fit, leave W₁ as one does."""
    network = make_network()
    task = ClassificationTask(network)
    trainer = make_trainer(callbacks=[WhitenedExtraLayer(UNREGULARISED)], limit_test_batches=1)
    for _ in range(2):
        trainer.test(task, DigitsDataModule(), verbose=False)
    assert torch.equal(network[-1].extra_layer.expand.weight, whitened(make_trainer)[-1].extra_layer.expand.weight)


def test_mistakes(make_trainer):
    for settings in ({"num_images": 0}, {"seed": -1}):
        with pytest.raises(UserError, match=f"moment.{next(iter(settings))} must be at least"):
            WhitenedExtraLayer(MomentSettings(**settings))
    trained = make_network()
    nn.init.ones_(trained[-1].extra_layer.contract.weight)
    for network, words in ((make_network(False), "no extra layer"), (trained, "not the identity any more")):
        trainer = make_trainer(callbacks=[WhitenedExtraLayer(MomentSettings())], limit_test_batches=1)
        with pytest.raises(UserError, match=words):
            trainer.test(ClassificationTask(network), DigitsDataModule(), verbose=False)
