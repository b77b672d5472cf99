import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from editable.data import DigitsDataModule
from editable.data.modules.training_order import AugmentedImages, EpochSampler


class Recorder(LightningModule):
    """Keeps each epoch's training batches; learns nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.epochs = {}
        self.validated = []

    def training_step(self, batch, batch_idx):
        self.epochs.setdefault(self.current_epoch, []).append(batch[0].clone())
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch[0].clone())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def numbered(count):
    return TensorDataset(torch.arange(count, dtype=torch.float32).view(-1, 1), torch.zeros(count, dtype=torch.int64))


def add_noise(image):
    return image + torch.rand(1)


def trainer(folder, **kwargs):
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **kwargs,
    )


def fit(folder, num_workers, max_epochs, validation_fraction, resume=None):
    data = DigitsDataModule(64, num_workers, 3, validation_fraction, train_limit=300, augmentation="shift")
    task = Recorder()
    saving = ModelCheckpoint(folder, filename=f"{max_epochs}-{num_workers}")
    run = trainer(folder, max_epochs=max_epochs, callbacks=[saving])
    run.fit(task, data, ckpt_path=resume, weights_only=True)
    return task.epochs, saving.best_model_path


@pytest.mark.parametrize("validation_fraction", [0.0, 0.1])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_sees_what_an_uninterrupted_one_sees(tmp_path, num_workers, validation_fraction):
    seed_everything(1)
    whole, _ = fit(tmp_path, 0, 3, validation_fraction)
    seed_everything(2)  # the global generator has no say in it
    _, checkpoint = fit(tmp_path, num_workers, 1, validation_fraction)
    resumed, _ = fit(tmp_path, num_workers, 3, validation_fraction, resume=checkpoint)
    assert sorted(whole) == [0, 1, 2]
    assert sorted(resumed) == [1, 2]
    for epoch in (1, 2):
        assert torch.equal(torch.stack(whole[epoch]), torch.stack(resumed[epoch]))
    assert not torch.equal(torch.stack(whole[0]), torch.stack(whole[1]))


@pytest.mark.parametrize("count", [12, 13])
def test_ranks_share_the_images(count):
    shards = [list(EpochSampler(numbered(count), seed=0, num_replicas=2, rank=rank)) for rank in (0, 1)]
    indices = [{index for _, index in shard} for shard in shards]
    assert [len(shard) for shard in shards] == [6, 6]
    assert indices[0].isdisjoint(indices[1])


def test_two_ranks_together_see_the_order_of_one():
    alone = list(EpochSampler(numbered(12), seed=0))
    shards = [list(EpochSampler(numbered(12), seed=0, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert [key for pair in zip(*shards, strict=True) for key in pair] == alone


def test_each_epoch_has_its_own_order():
    sampler = EpochSampler(numbered(20), seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        assert sorted(index for _, index in keys) == list(range(20))
        orders.append(keys)
    assert orders[0] == orders[2]
    assert [index for _, index in orders[0]] != [index for _, index in orders[1]]


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    images = AugmentedImages(numbered(5), add_noise, seed=0)
    noise = {key: float(images[key][0]) - key[1] for key in [(0, 1), (0, 2), (1, 1)]}
    assert len(set(noise.values())) == 3
    assert float(images[0, 1][0]) - 1 == noise[0, 1]
    assert float(images[1][0]) - 1 == noise[0, 1]  # a bare index stands for epoch 0
    assert float(AugmentedImages(numbered(5), add_noise, seed=1)[0, 1][0]) - 1 != noise[0, 1]


def test_augmentation_leaves_the_global_generators_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("reseeded the accelerator"))
    torch.default_generator.manual_seed(0)
    expected = torch.rand(3)
    torch.default_generator.manual_seed(0)
    AugmentedImages(numbered(5), add_noise, seed=0)[0, 1]
    assert torch.equal(torch.rand(3), expected)


def test_persistent_workers_learn_of_the_epoch():
    images = AugmentedImages(numbered(6), add_noise, seed=0)
    sampler = EpochSampler(images, seed=0)
    loader = DataLoader(images, 2, sampler=sampler, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        expected = torch.stack([images[key][0] for key in sampler])
        assert torch.equal(torch.cat([batch for batch, _ in loader]), expected)


def test_overfit_batches_repeats_the_same_batches(tmp_path):
    task = Recorder()
    with pytest.warns(UserWarning, match="overfit"):
        trainer(tmp_path, max_epochs=2, overfit_batches=2, enable_checkpointing=False).fit(task, DigitsDataModule())
    assert len(task.epochs[0]) == 2
    assert torch.equal(torch.stack(task.epochs[0]), torch.stack(task.epochs[1]))


def test_limit_batches(tmp_path):
    task = Recorder()
    limits = {"limit_train_batches": 3, "limit_val_batches": 1}
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False, **limits).fit(task, DigitsDataModule())
    assert [len(batches) for batches in task.epochs.values()] == [3, 3]
    assert len(task.validated) == 2


class SavingRecorder(Recorder):
    """Writes down, per rank, what it saw."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_fit_end(self):
        seen = {"train": torch.cat(self.epochs[1]), "val": torch.cat(self.validated)}
        torch.save(seen, self.folder / f"{self.global_rank}.pt")


def test_two_ranks_see_the_batches_of_one(tmp_path):
    # New processes: what is forked from one that has differentiated cannot do so itself.
    pair = trainer(tmp_path, max_epochs=2, enable_checkpointing=False, strategy="ddp_spawn", devices=2)
    pair.fit(SavingRecorder(tmp_path), DigitsDataModule(batch_size=10, train_limit=200))
    single = Recorder()
    data = DigitsDataModule(batch_size=20, train_limit=200)
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False).fit(single, data)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    together = torch.stack([rank["train"] for rank in ranks], dim=1).flatten(0, 1)
    assert torch.equal(together, torch.cat(single.epochs[1]).cpu())
    # in each of the two epochs, Lightning shares out the 143 validation images, and repeats one
    assert len(torch.cat(single.validated)) == 2 * 143
    assert [len(rank["val"]) for rank in ranks] == [2 * 72, 2 * 72]


def test_alternating_images_are_mirrored_in_every_other_epoch():
    """About a half of them in even epochs, the others in odd ones; another seed draws others."""
    images = TensorDataset(torch.arange(3.0).expand(200, 1, 1, 3), torch.zeros(200, dtype=torch.int64))

    def mirrored(epoch: int, seed: int = 0) -> torch.Tensor:
        augmented = AugmentedImages(images, lambda image: image, seed, alternating=True)
        firsts = torch.tensor([augmented[epoch, index][0][0, 0, 0].item() for index in range(200)])
        assert set(firsts.tolist()) == {0.0, 2.0}
        return firsts == 2

    assert torch.equal(mirrored(0), mirrored(2))
    assert torch.equal(mirrored(0), ~mirrored(1))
    assert 70 < mirrored(0).sum() < 130  # four standard deviations of a binomial, 7
    assert not torch.equal(mirrored(0), mirrored(0, seed=1))


def test_a_data_module_alternates():
    """Each image of digits is shown in both ways by two epochs: without the shift, one is the other mirrored."""
    data = DigitsDataModule(augmentation="none", train_limit=20)
    data.augmentation = "shift_flip"  # of stored images, whose modules need files
    data.setup("fit")
    data.train_dataset.transform.transforms[0] = torch.nn.Identity()
    for index in range(len(data.train_dataset)):
        first, second, third = (data.train_dataset[epoch, index][0] for epoch in range(3))
        assert torch.equal(first, second.flip(-1))
        assert torch.equal(first, third)
