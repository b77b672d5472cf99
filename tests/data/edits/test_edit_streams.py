import numpy as np
import pytest
import torch

from editable.data import Edits, HeldOutEdits, NaturalMistakeEdits, RandomLabelEdits, random_training_edits
from editable.errors import UserError

NUM_INPUTS, NUM_CLASSES = 10_000, 10


@pytest.fixture
def labels():
    return torch.from_numpy(np.random.RandomState(1).randint(0, NUM_CLASSES, NUM_INPUTS))


@pytest.fixture
def predictions(labels):
    wrong = torch.from_numpy(np.random.RandomState(2).rand(NUM_INPUTS) < 0.06)
    return torch.where(wrong, (labels + 1) % NUM_CLASSES, labels)


def published_edits(num_inputs, num_classes, num_drawn=1000):
    """The published lines, on numpy's global generator."""
    state = np.random.get_state()
    np.random.seed(9)
    indices = np.random.permutation(num_inputs)[:num_drawn]
    new_labels = np.random.randint(0, num_classes, num_drawn)
    np.random.set_state(state)
    return indices, new_labels


@pytest.mark.parametrize("num_edits", [None, 1, 50, 1000])
def test_random_labels_are_the_published_ones(labels, predictions, num_edits):
    indices, new_labels = published_edits(NUM_INPUTS, NUM_CLASSES)
    edits = RandomLabelEdits()(labels, predictions, NUM_CLASSES, num_edits)
    assert isinstance(edits, Edits)
    assert edits.indices.dtype == edits.labels.dtype == torch.int64
    assert edits.indices.tolist() == indices[:num_edits].tolist()
    assert edits.labels.tolist() == new_labels[:num_edits].tolist()


def test_labels_equal_to_the_prediction_stay(labels, predictions):
    edits = RandomLabelEdits()(labels, predictions, NUM_CLASSES)
    assert (predictions[edits.indices] == edits.labels).sum() > 50


def test_more_than_a_thousand_edits(labels, predictions):
    indices, new_labels = published_edits(NUM_INPUTS, NUM_CLASSES, 2500)
    edits = RandomLabelEdits()(labels, predictions, NUM_CLASSES, 2500)
    assert edits.indices.tolist() == indices.tolist()
    assert edits.labels.tolist() == new_labels.tolist()


def test_fewer_than_a_thousand_inputs(labels, predictions):
    indices, new_labels = published_edits(360, NUM_CLASSES, 360)
    edits = RandomLabelEdits()(labels[:360], predictions[:360], NUM_CLASSES)
    assert edits.indices.tolist() == indices.tolist()
    assert edits.labels.tolist() == new_labels.tolist()


def test_global_numpy_state_is_untouched(labels, predictions):
    np.random.seed(3)
    expected = np.random.rand(4)
    np.random.seed(3)
    RandomLabelEdits()(labels, predictions, NUM_CLASSES)
    NaturalMistakeEdits()(labels, predictions, NUM_CLASSES, 5)
    assert np.random.rand(4).tolist() == expected.tolist()


@pytest.mark.parametrize("num_edits", [0, -1, 21])
def test_random_labels_out_of_range(labels, predictions, num_edits):
    with pytest.raises(UserError, match=rf"num_edits is {num_edits}, but must be from 1 to 20, the number of inputs"):
        RandomLabelEdits()(labels[:20], predictions[:20], NUM_CLASSES, num_edits)


@pytest.mark.parametrize("num_edits", [None, NUM_INPUTS])
def test_all_mistakes_in_order(labels, predictions, num_edits):
    edits = NaturalMistakeEdits()(labels, predictions, NUM_CLASSES, num_edits)
    assert edits.indices.tolist() == [i for i in range(NUM_INPUTS) if predictions[i] != labels[i]]
    assert torch.equal(edits.labels, labels[edits.indices])


def test_some_mistakes_by_seed(labels, predictions):
    first, again, other = (NaturalMistakeEdits(seed)(labels, predictions, NUM_CLASSES, 30) for seed in (9, 9, 10))
    assert len(set(first.indices.tolist())) == 30
    assert (predictions[first.indices] != labels[first.indices]).all()
    assert torch.equal(first.labels, labels[first.indices])
    assert torch.equal(first.indices, again.indices)
    assert not torch.equal(first.indices, other.indices)


def test_no_mistakes(labels):
    with pytest.raises(UserError, match="makes no mistake on these 10000 inputs"):
        NaturalMistakeEdits()(labels, labels, NUM_CLASSES)


def test_held_out_edits_by_their_definition(labels, predictions):
    published, _ = published_edits(1500, NUM_CLASSES)
    free = sorted(set(range(1500)) - set(published.tolist()))
    random = np.random.RandomState(4)
    order = random.permutation(500)[:70]
    new_labels = random.randint(0, NUM_CLASSES, 70)
    edits = HeldOutEdits(seed=4)(labels[:1500], predictions[:1500], NUM_CLASSES, 70)
    assert edits.indices.tolist() == [free[position] for position in order]
    assert edits.labels.tolist() == new_labels.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_held_out_edits_are_no_reported_ones(labels, predictions, seed):
    published, _ = published_edits(NUM_INPUTS, NUM_CLASSES)
    edits = HeldOutEdits(seed=seed)(labels, predictions, NUM_CLASSES)
    assert not set(edits.indices.tolist()) & set(published.tolist())
    assert len(set(edits.indices.tolist())) == NUM_INPUTS - 1000
    counts = edits.labels.bincount(minlength=NUM_CLASSES)
    assert (counts - 900).abs().max() < 5 * 900**0.5
    natural = HeldOutEdits(NaturalMistakeEdits(), seed=seed)(labels, predictions, NUM_CLASSES, 100)
    assert (predictions[natural.indices] == labels[natural.indices]).all()
    more = HeldOutEdits(num_reported=9990, seed=seed)(labels, predictions, NUM_CLASSES, 10)
    assert not set(more.indices.tolist()) & set(published_edits(NUM_INPUTS, NUM_CLASSES, 9990)[0].tolist())


@pytest.mark.parametrize(("num_inputs", "num_edits", "left"), [(360, 1, 0), (1050, 51, 50), (1050, 0, 50)])
def test_too_few_inputs_to_hold_out(labels, predictions, num_inputs, num_edits, left):
    message = f"{num_edits} held-out edits are asked for, but of these {num_inputs} inputs {left} are left"
    with pytest.raises(UserError, match=message):
        HeldOutEdits()(labels[:num_inputs], predictions[:num_inputs], NUM_CLASSES, num_edits)


def test_training_edits():
    generator = torch.Generator().manual_seed(0)
    drawn = [random_training_edits(8, 3, 8, generator) for _ in range(200)]
    assert all(sorted(edits.indices.tolist()) == list(range(8)) for edits in drawn)
    counts = torch.cat([edits.labels for edits in drawn]).bincount(minlength=3)
    assert len(counts) == 3
    assert (counts - 1600 / 3).abs().max() < 100  # five standard deviations
    first = random_training_edits(128, 10, 1, torch.Generator().manual_seed(5))
    assert torch.equal(first.indices, random_training_edits(128, 10, 1, torch.Generator().manual_seed(5)).indices)


@pytest.mark.parametrize("num_edits", [0, 9])
def test_training_edits_out_of_range(num_edits):
    with pytest.raises(UserError, match=rf"num_edits is {num_edits}, but must be from 1 to 8"):
        random_training_edits(8, 3, num_edits, torch.Generator())
