import torch
from sklearn.datasets import load_digits

from editable.data import DigitsDataModule


def pixels(data, dataset):
    """Stored pixel values 0..16, one row per image."""
    images = torch.stack([dataset[i][0] for i in range(len(dataset))])
    return (images * data.std[0] + data.mean[0]).mul(16).round().long().flatten(1)


def test_parts_are_the_digits():
    data = DigitsDataModule(augmentation="none")
    data.setup("fit")
    data.setup("test")
    assert data.image_shape == (1, 8, 8)
    assert data.num_classes == 10
    parts = [data.train_dataset, data.val_dataset, data.test_dataset]
    counts = [len(part) for part in parts]
    assert sum(counts) == 1797
    assert abs(counts[2] - 0.2 * 1797) <= 5
    assert abs(counts[1] - 0.1 * 0.8 * 1797) <= 5
    together = torch.cat([pixels(data, part) for part in parts])
    stored = torch.from_numpy(load_digits().data).long()
    assert sorted(together.tolist()) == sorted(stored.tolist())


def test_parts_are_stratified():
    data = DigitsDataModule()
    data.setup("test")
    counts = torch.tensor(
        [label for _, label in (data.test_dataset[i] for i in range(len(data.test_dataset)))]
    ).bincount()
    expected = torch.from_numpy(load_digits().target).bincount() * 0.2
    assert (counts - expected).abs().max() <= 0.5


def test_test_images_do_not_depend_on_the_seed():
    first, other = DigitsDataModule(seed=0), DigitsDataModule(seed=1)
    for data in (first, other):
        data.setup("fit")
        data.setup("test")
    assert torch.equal(pixels(first, first.test_dataset), pixels(other, other.test_dataset))
    assert not torch.equal(pixels(first, first.val_dataset), pixels(other, other.val_dataset))


def test_default_normalisation_is_that_of_the_digits():
    scaled = torch.from_numpy(load_digits().images) / 16
    data = DigitsDataModule()
    torch.testing.assert_close(data.mean[0], scaled.mean().item(), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.std[0], scaled.std(correction=0).item(), atol=1e-4, rtol=0)
