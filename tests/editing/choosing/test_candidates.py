"""Which editors fit a network, where each works, and what they are called."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from editable.editing import (
    GD,
    BaseEditor,
    CodebookEditor,
    Editor,
    HigherEditor,
    MinimalHarmEditor,
    RidgeEditor,
    RMSProp,
    StrengthSearch,
)
from editable.editing.choosing.candidates import Candidate, candidates_for, layers_for, places_of
from editable.errors import UserError
from editable.models import add_codebook, add_neurons

RATES = ["1e-05", "3e-05", "0.0001", "0.0003", "0.001", "0.003", "0.01"]
TOP = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
"""A network whose layers all lie at the top: its kernels and matrices are those of 0, 3 and 5."""
NO_CLASSIFIER = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)), nn.Conv1d(4, 2, 1))
"""A network that ends in another layer than a linear one."""


class Untraceable(nn.Module):
    """Looks at its values; its last layer by name is linear."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.norm(x) if x.sum() > 0 else x)


@pytest.mark.parametrize(
    ("network", "classifier", "block"),
    [
        (TOP, "5", "3"),
        (resnet18(num_classes=3), "fc", "layer4.1"),
        (NO_CLASSIFIER, None, "1"),
        (Untraceable(nn.Linear(4, 2)), "last", "first"),
        (Untraceable(nn.Conv1d(4, 2, 1)), None, "last"),
        (add_codebook(copy.deepcopy(TOP)), "base.5", "base.3"),
        (add_codebook(resnet18(num_classes=3)), "base.fc", "base.layer4.1"),
        (add_neurons(copy.deepcopy(TOP)), "5", "3"),
    ],
    ids=[
        "at the top",
        "in blocks",
        "no classifier",
        "untraceable",
        "untraceable and no classifier",
        "with a codebook",
        "in blocks with a codebook",
        "with neurons",
    ],
)
def test_the_classifier_and_the_block_before_it(network: nn.Module, classifier: str | None, block: str) -> None:
    assert places_of(network) == (classifier, block)


@pytest.mark.parametrize("network", [nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.Sequential(nn.BatchNorm1d(3))])
def test_a_network_without_a_layer_before_its_classifier(network: nn.Module) -> None:
    with pytest.raises(UserError, match="Sequential has no layer before its classifier that gradients could change"):
        candidates_for(network)


def test_what_changes_least_comes_first() -> None:
    gradients = [f"Editor(RMSProp {rate}) at 3" for rate in RATES]
    weakened = [f"StrengthSearch(Editor(RMSProp {rate})) at 3" for rate in RATES]
    forms = ["MinimalHarmEditor at 5", "RidgeEditor at 5"]
    assert [one.title for one in candidates_for(TOP)] == [*forms, *weakened, *gradients]
    assert [one.title for one in candidates_for(NO_CLASSIFIER)] == [
        title.replace(" at 3", " at 1") for title in (*weakened, *gradients)
    ]


@pytest.mark.parametrize(
    ("editor", "title"),
    [
        (Editor(GD(0.1)), "Editor(GD 0.1)"),
        (Editor(GD(0.1, learn_learning_rate=True)), "Editor(GD 0.1)"),
        (StrengthSearch(Editor(RMSProp(3e-4))), "StrengthSearch(Editor(RMSProp 0.0003))"),
        (HigherEditor(partial(torch.optim.SGD, lr=0.3)), "HigherEditor"),
        (RidgeEditor(), "RidgeEditor"),
    ],
)
def test_titles(editor: BaseEditor, title: str) -> None:
    assert Candidate(editor, ("layer4", "fc")).title == f"{title} at layer4, fc"


def test_layers_of_an_editor() -> None:
    """Its own, those that are given, or by what it needs."""
    gradients, form, book = Editor(GD(0.1)), MinimalHarmEditor(), CodebookEditor()
    assert book.own_layers
    assert layers_for(book, TOP) == layers_for(book, TOP, book.own_layers) == tuple(book.own_layers)
    with pytest.raises(UserError, match="CodebookEditor changes a layer of its own, 'codebook', but layers names 3"):
        layers_for(book, TOP, "3")
    assert layers_for(form, TOP, "3") == ("3",)
    assert layers_for(gradients, TOP, ["0", "3"]) == ("0", "3")
    assert layers_for(form, TOP) == ("5",)
    assert layers_for(gradients, TOP) == layers_for(StrengthSearch(gradients), TOP) == ("3",)
    assert layers_for(StrengthSearch(form), TOP) == ("5",)
    assert layers_for(form, NO_CLASSIFIER) == ("1",)
