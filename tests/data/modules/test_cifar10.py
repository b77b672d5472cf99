import numpy as np
import pytest
import torch

from editable.data import CIFAR10DataModule
from editable.data.modules import cifar10
from editable.errors import UserError


class FakeCIFAR10:
    """Stands for torchvision's class, which accepts the original files only."""

    requested = ()

    def __init__(self, root, train=True, download=False):
        type(self).requested += ((train, download),)
        random = np.random.RandomState(int(train))
        self.targets = [i % 10 for i in range(100 if train else 20)]
        self.data = random.randint(0, 256, (len(self.targets), 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(cifar10, "CIFAR10", FakeCIFAR10)
    monkeypatch.setattr(FakeCIFAR10, "requested", ())
    return FakeCIFAR10


def test_arrays_become_normalised_images(fake, tmp_path):
    data = CIFAR10DataModule(str(tmp_path), batch_size=20, num_workers=0)
    data.setup("test")
    images, labels = next(iter(data.test_dataloader()))
    mean = np.array([0.4914, 0.4822, 0.4465])
    std = np.array([0.2023, 0.1994, 0.2010])
    expected = ((fake("", train=False).data / 255 - mean) / std).transpose(0, 3, 1, 2)
    torch.testing.assert_close(images, torch.from_numpy(expected).float())
    assert labels.tolist() == [i % 10 for i in range(20)]
    assert data.image_shape == (3, 32, 32)


@pytest.mark.parametrize(("fraction", "num_training", "num_validation"), [(0.1, 90, 10), (0.0, 100, None)])
def test_validation_comes_from_the_training_images(fake, tmp_path, fraction, num_training, num_validation):
    data = CIFAR10DataModule(str(tmp_path), num_workers=0, validation_fraction=fraction)
    data.setup("fit")
    assert len(data.train_dataset) == num_training
    assert (None if data.val_dataset is None else len(data.val_dataset)) == num_validation
    assert data.train_dataset[0][0].shape == (3, 32, 32)
    assert all(train for train, _ in fake.requested)


def test_download_only_if_asked(fake, tmp_path):
    CIFAR10DataModule(str(tmp_path)).prepare_data()
    assert fake.requested == ()
    CIFAR10DataModule(str(tmp_path), download=True).prepare_data()
    assert fake.requested == ((True, True),)


def test_missing_data_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=f"CIFAR-10 is not in {tmp_path}, or not whole: set download to true") as raised:
        CIFAR10DataModule(str(tmp_path)).setup("fit")
    assert "\n" not in str(raised.value)


def test_failed_download_says_what_to_do(monkeypatch, tmp_path):
    def fail(root, download):
        raise OSError("no route to host")

    monkeypatch.setattr(cifar10, "CIFAR10", fail)
    with pytest.raises(UserError, match=r"cannot be downloaded to .* \(no route to host\): unpack"):
        CIFAR10DataModule(str(tmp_path), download=True).prepare_data()
