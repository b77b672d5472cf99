"""An edit in one call: what it does and costs, looked at plainly beside it."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import editable
from editable.calls.judge import halves
from editable.calls.views import shifted_views
from editable.editing import EditPatch
from editable.editing.choosing.candidates import candidates_for, places_of
from editable.errors import UserError
from tests.calls.small import CLASSES, classifier, images, mistakes

X, Y = images(400, seed=2)


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return classifier()


@pytest.fixture(scope="module")
def wrong(network: nn.Sequential) -> list[int]:
    found = mistakes(network, X, Y)
    assert len(found) > 10
    return found


def predicted(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(x).argmax(dim=1)


@pytest.mark.parametrize("views", [0, 3])
def test_an_edit_is_what_it_says(network: nn.Sequential, wrong: list[int], views: int):
    """Success, views, harm, broken images and the bound: by plain passes of the patched network."""
    before, some = copy.deepcopy(network.state_dict()), wrong[:2]
    fix = editable.edit(network, X[some], [CLASSES[Y[i]] for i in some], judge=(X, Y), classes=CLASSES, views=views)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert fix.success
    edited = fix.network
    assert predicted(edited, X[some]).equal(Y[some])
    assert predicted(edited, shifted_views(X[some], views).flatten(0, 1)).equal(Y[some].repeat_interleave(views))
    assert fix.num_views == views
    judged = [i for i in halves(400, True, 0)[0].tolist() if i not in some]
    old, new = predicted(network, X[judged]), predicted(edited, X[judged])
    harm = fix.harm
    assert harm is not None
    broken = [i for i, was, now in zip(judged, old, new, strict=True) if was == Y[i] and now != Y[i]]
    assert harm.broken == broken
    assert harm.num_images == len(judged)
    assert harm.num_changed == int((old != new).sum())
    assert harm.num_mended == int(((old != Y[judged]) & (new == Y[judged])).sum())
    assert harm.error_before == pytest.approx(float((old != Y[judged]).double().mean()))
    assert harm.error_after == pytest.approx(float((new != Y[judged]).double().mean()))
    counted = sum(one.harm is not None for one in fix.tried)
    bound = beta.ppf(1 - 0.05 / counted, len(broken) + 1, len(judged) - len(broken))
    assert harm.bound == pytest.approx(bound, rel=1e-6)
    assert harm.error_after == min(one.harm.error_after for one in fix.tried if one.harm is not None)
    assert fix.chosen.success
    assert len(fix.tried) == len(candidates_for(network))


def test_words(network: nn.Sequential, wrong: list[int]):
    i = wrong[0]
    fix = editable.edit(network, X[i], int(Y[i]), judge=DataLoader(TensorDataset(X, Y)), classes=CLASSES)
    words = repr(fix)
    assert "1 image, with 8 views of each, shifted and flipped, corrected in" in words
    assert f"→ {CLASSES[Y[i]]} (" in words
    assert f"wrong of {fix.harm.num_images} other images: {len(fix.harm.broken)} broken" in words
    assert f"chosen by least harm among {len(fix.tried)}" in words
    assert "nothing is changed until fix.patch.apply_(network)" in words
    assert len(words.splitlines()) <= 7
    assert fix.patch.record.asked == [f"{CLASSES[int(predicted(network, X[i : i + 1]))]} → {CLASSES[Y[i]]}"]


@pytest.mark.parametrize("classes", [None, CLASSES, [10, 20, 30]])
def test_the_patch_is_the_edit(network: nn.Sequential, wrong: list[int], classes: list | None, tmp_path: Path):
    """Also when it comes back from its file."""
    fix = editable.edit(network, X[wrong[:1]], Y[wrong[:1]], judge=(X, Y), views=0, classes=classes)
    fix.patch.save(tmp_path / "fix.safetensors")
    for patch in (fix.patch, EditPatch.load(tmp_path / "fix.safetensors")):
        with patch.applied(own := copy.deepcopy(network)):
            assert predicted(own, X).equal(predicted(fix.network, X))
        assert predicted(own, X).equal(predicted(network, X))
        assert patch.record.labels == Y[wrong[:1]].tolist()
        assert patch.record.classes == (classes and [*map(str, classes)])


def test_automatic_edits_change_the_layers_that_are_named(network: nn.Sequential, wrong: list[int]):
    some, before = wrong[:1], network.state_dict()
    for layers, names in (("3", {"3.weight", "3.bias"}), (["5"], {"5.weight", "5.bias"}), (["0", "3"], None)):
        fix = editable.edit(network, X[some], Y[some], judge=(X, Y), views=0, layers=layers)
        changed = {name for name, value in fix.network.state_dict().items() if not torch.equal(value, before[name])}
        assert changed
        assert changed <= (names or {"0.weight", "0.bias", "3.weight", "3.bias"})
        assert any("MinimalHarm" in tried.title for tried in fix.tried) == (layers == ["5"])
    with pytest.raises(UserError, match="'99'"):
        editable.edit(network, X[some], Y[some], judge=(X, Y), layers="99")


def test_a_given_editor_and_references_of_ones_own(network: nn.Sequential, wrong: list[int]):
    """With references, all of the judge's images judge; what the editor does is what it does by itself."""
    some, references = wrong[:2], images(100, seed=5)
    editor = editable.editors.MinimalHarmEditor()
    fix = editable.edit(network, X[some], Y[some], judge=(X, Y), references=references, editor=editor, views=0)
    assert fix.harm.num_images == 398
    assert fix.layers == ("5",)
    from editable.editing import EditSite
    from editable.models import SplitNetwork

    split = SplitNetwork(network, "5")
    placed = editor.at(EditSite(split, lambda number: [references]))
    result = placed(split.suffix, split.params, split.prefix(X[some]), Y[some])
    torch.testing.assert_close(fix.network[5].weight.detach(), result.params["5.weight"], rtol=1e-4, atol=1e-5)
    gradients = editable.edit(
        network, X[some], Y[some], editor=editable.editors.Editor(editable.editors.RMSProp(3e-3)), views=0
    )
    assert gradients.harm is None
    assert gradients.layers == ("3",)
    assert "harm: not measured" in repr(gradients)


def test_a_codebook_comes_with_its_patch(network: nn.Sequential, wrong: list[int]):
    """It is put in and taken out in place; no weight of the network's own changes."""
    before, some = copy.deepcopy(network.state_dict()), wrong[:3]
    editor = editable.editors.CodebookEditor(num_references=100)
    fix = editable.edit(network, X[some], Y[some], judge=(X, Y), editor=editor)
    own = copy.deepcopy(network)
    fix.patch.apply_(own)
    assert predicted(own, X[some]).equal(Y[some])
    assert predicted(own, X).equal(predicted(fix.network, X))
    fix.patch.revert_(own)
    assert list(own.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    with pytest.raises(UserError, match="needs a network in full precision"):
        editable.edit(copy.deepcopy(network).half(), X[some], Y[some], judge=(X, Y), editor=editor)


@pytest.mark.parametrize("strength", [0.0, 4.0])
def test_what_a_codebook_costs(network: nn.Sequential, wrong: list[int], strength: float):
    """The whitening that the editor sets up is there when the judge's images are looked at."""
    some, (others, known) = wrong[:1], images(200, seed=3)
    editor = editable.editors.CodebookEditor(threshold=0.2, firing_rate=0.5, num_references=200, strength=strength)
    fix = editable.edit(network, X[some], Y[some], judge=(X, Y), editor=editor, references=(others, known), views=0)
    judged = [position for position in range(len(X)) if position not in some]
    before, after, labels = predicted(network, X[judged]), predicted(fix.network, X[judged]), Y[judged]
    assert fix.harm is not None
    assert fix.harm.num_changed == int((before != after).sum()) > 0
    assert len(fix.harm.broken) == int(((before == labels) & (after != labels)).sum()) > 0


def test_a_network_that_has_a_codebook_is_edited_in_its_own_classifier(network: nn.Sequential, wrong: list[int]):
    """Keys of earlier edits are no classes; what they are near to keeps its label."""
    first, second = wrong[:1], wrong[1:2]
    book = editable.editors.CodebookEditor(num_references=100)
    corrected = editable.edit(network, X[first], Y[first], judge=(X, Y), editor=book).network
    keys = corrected.get_parameter("codebook.match.weight").clone()
    for editor in (editable.editors.MinimalHarmEditor(), "auto"):
        fix = editable.edit(corrected, X[second], Y[second], judge=(X, Y), editor=editor)
        assert "MinimalHarmEditor at base.5" in fix.tried[0].title
        assert torch.equal(fix.network.get_parameter("codebook.match.weight"), keys)
        assert predicted(fix.network, X[first + second]).equal(Y[first + second])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(network: nn.Sequential, wrong: list[int], dtype: torch.dtype):
    """The edit holds as the network computes, in its own precision, and its weights stay of that."""
    own = copy.deepcopy(network).to(dtype)
    with torch.no_grad():
        some = (own(X.to(dtype)).argmax(dim=1) != Y).nonzero().flatten().tolist()[:2]
    fix = editable.edit(own, X[some], Y[some], judge=(X, Y), views=0)
    assert {param.dtype for param in fix.network.parameters()} == {dtype}
    assert predicted(fix.network, X[some].to(dtype)).equal(Y[some])


def test_the_edited_images_do_not_judge(network: nn.Sequential, wrong: list[int]):
    twice = torch.cat([X, X]), torch.cat([Y, Y])
    fix = editable.edit(network, X[wrong[:3]], Y[wrong[:3]], judge=twice, references=(X, Y), views=0)
    assert fix.harm.num_images == 800 - 6


def test_places():
    assert places_of(classifier()) == ("5", "3")
    assert places_of(editable.models.cifar_resnet18()) == ("fc", "layer4.1")
    convolutions = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert places_of(convolutions) == (None, "1")
    with pytest.raises(UserError, match="Flatten has no layer before its classifier"):
        places_of(nn.Flatten())


BAD: list[tuple[dict[str, Any], str]] = [
    ({"editor": "best"}, "or 'auto', got 'best'"),
    ({"judge": None}, "'auto' is chosen by harm: give judge"),
    ({"labels": 3}, r"asked for are \[3\], but the network's classes are 0 … 2"),
    ({"labels": "cow", "classes": CLASSES}, "'cow' is none of the 3 classes"),
    ({"labels": "cat"}, "give classes"),
    ({"classes": ["a", "b"]}, "classes has 2 names, but the network has 3 classes"),
    ({"views": -1}, "views must be at least 0"),
    ({"level": 1.0}, "level must be in"),
    ({"seed": -1}, "seed must be at least 0"),
    ({"editor": editable.editors.Editor(editable.editors.RMSProp(1e-3)), "layers": "head"}, "head"),
    ({"editor": editable.editors.CodebookEditor(), "layers": "5"}, "layer of its own, 'codebook', but layers names 5"),
    ({"images": X[:1], "labels": [int(Y[0])]}, "there is nothing to edit"),
    ({"judge": (X, Y + 5)}, r"judge has the label [567], which is none of the network's classes, 0 … 2"),
    ({"images": torch.zeros(1, 1, 8, 8)}, r"Sequential cannot take images \[1, 8, 8\] \("),
    ({"judge": (X[:, :1], Y)}, r"judge has images that do not fit: Sequential cannot take images \[1, 8, 8\]"),
    ({"references": (X[:, :, :4], Y)}, r"references has images that do not fit: .* \[3, 4, 8\]"),
    ({"judge": (X, torch.cat([Y[:-1], torch.tensor([8])])), "references": (X[:9], Y[:9])}, "judge has the label 8"),
    ({"references": (X, torch.cat([Y[:-1], torch.tensor([-1])]))}, "references has the label -1"),
    ({"labels": 10**30}, "a label is the name or the number of a class, got 1000000000000"),
    ({"network": nn.Flatten()}, "Flatten has no layer before its classifier"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_mistakes_end_in_one_sentence(network: nn.Sequential, wrong: list[int], changes: dict[str, Any], message: str):
    assert 0 not in wrong
    given = {"network": network, "images": X[wrong[:1]], "labels": Y[wrong[:1]], "judge": (X, Y)} | changes
    first = [given.pop(name) for name in ("network", "images", "labels")]
    with pytest.raises(UserError, match=message):
        editable.edit(*first, **given)


def test_a_network_of_inference_mode_is_refused():
    with torch.inference_mode():
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3))
        asked = int(network(X[:1]).argmin())
    with pytest.raises(UserError, match=r"were made under torch.inference_mode\(\), where nothing can be edited"):
        editable.edit(network, X[0], asked, judge=(X, Y))


def test_what_no_candidate_can_do_is_said(network: nn.Sequential):
    """One image with two labels."""
    with pytest.raises(UserError, match="no candidate gives all 2 images the labels asked for: MinimalHarmEditor at 5"):
        editable.edit(network, X[[0, 0]], [1, 2], judge=(X, Y), views=0)


class Telling(nn.Module):
    """A classifier that torch.fx cannot trace, whose logits are one value of a dict."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if x.isnan().any():
            raise ValueError
        return {"logits": self.inner(x)}


def test_what_a_network_is_taken_for_is_said_once(wrong: list[int]):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        network = Telling(classifier())
        editable.edit(network, X[wrong[0]], CLASSES[Y[wrong[0]]], judge=(X, Y), classes=CLASSES)
    sentences = [str(warning.message) for warning in said]
    assert "Telling returns a dict: its 'logits' is taken for the logits" in sentences
    assert len(sentences) == len(set(sentences)) == 2
