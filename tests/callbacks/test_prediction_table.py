import csv

import pytest
import torch

from editable.callbacks import PredictionTable
from editable.data import DigitsDataModule
from editable.errors import UserError
from editable.models import cifar_resnet
from editable.tasks import ClassificationTask
from tests.tasks.reference import images_and_labels, loader, small_network


def read(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def assert_predictions(rows, network, images, names):
    """Compare every seventh with a plain loop over single images."""
    assert [int(row["index"]) for row in rows] == list(range(len(images)))
    for position, row in list(enumerate(rows))[::7]:
        exponentials = network.eval()(images[position : position + 1])[0].exp()
        label = max(range(len(names)), key=lambda y: exponentials[y].item())
        assert int(row["label"]) == label
        assert row["class"] == names[label]
        assert float(row["probability"]) == pytest.approx((exponentials[label] / exponentials.sum()).item(), abs=2e-6)


def test_predictions_of_a_data_module(make_trainer, tmp_path):
    torch.manual_seed(0)
    network = cifar_resnet(width=2, layers=[1, 1, 1, 1], in_channels=1)
    data = DigitsDataModule()
    make_trainer(inference_mode=True, callbacks=[PredictionTable()]).predict(ClassificationTask(network), data)
    images = torch.stack([data.test_dataset[i][0] for i in range(len(data.test_dataset))])
    assert_predictions(read(tmp_path / "run"), network, images, data.classes)


def test_class_names_are_those_of_the_data_module(make_trainer, tmp_path):
    class NamedDigits(DigitsDataModule):
        classes = ("nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    torch.manual_seed(0)
    network = cifar_resnet(width=2, layers=[1, 1, 1, 1], in_channels=1)
    data = NamedDigits(batch_size=100)
    make_trainer(callbacks=[PredictionTable()]).predict(ClassificationTask(network), data)
    images = torch.stack([data.test_dataset[i][0] for i in range(len(data.test_dataset))])
    assert_predictions(read(tmp_path / "run"), network, images, data.classes)


def test_without_a_data_module_the_class_is_the_label(make_trainer, tmp_path):
    network = small_network(torch.float32)
    images, labels = images_and_labels(19, torch.float32)
    make_trainer(callbacks=[PredictionTable()]).predict(ClassificationTask(network), loader(images, labels))
    assert_predictions(read(tmp_path / "run"), network, images, ["0", "1", "2", "3"])


def test_predictions_of_another_run_are_not_overwritten(make_trainer, tmp_path):
    data = loader(*images_and_labels(8, torch.float32))
    task = ClassificationTask(small_network(torch.float32))
    trainer = make_trainer(callbacks=[PredictionTable()])
    trainer.predict(task, data)
    trainer.predict(task, data)  # the same run may
    before = (tmp_path / "run" / "predictions.csv").read_bytes()
    with pytest.raises(UserError, match=r"predictions\.csv.* another run"):
        make_trainer(callbacks=[PredictionTable()]).predict(ClassificationTask(small_network(torch.float32)), data)
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == before
    make_trainer(callbacks=[PredictionTable()]).test(task, data, verbose=False)  # writes none
