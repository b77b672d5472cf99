"""A network split for an editor: itself where its layers are changed, a copy where the editor brings a layer."""

import pytest
import torch
from torch import nn

from editable.editing import GD, CodebookEditor, Editor, MinimalHarmEditor, PreconditionedEditor, StrengthSearch
from editable.editing.editors import placing
from editable.editing.editors.placing import needs_place, split_for
from editable.errors import UserError
from editable.models import cifar_resnet


def network() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(num_classes=3, width=2, layers=(1, 1, 1, 1)).eval()


def test_who_asks_for_more_than_the_samples() -> None:
    gradients = Editor(GD(0.1))
    assert not needs_place(gradients)
    assert not needs_place(StrengthSearch(gradients))
    for editor in (MinimalHarmEditor(), CodebookEditor(), PreconditionedEditor(gradients)):
        assert needs_place(editor)
        assert needs_place(StrengthSearch(editor))


def test_layers_that_are_given_are_those_of_the_network_itself() -> None:
    own = network()
    split = split_for(Editor(GD(0.1)), own, ["layer4.0.conv2", "fc"])
    assert split.network is own
    assert set(split.names) == {"layer4.0.conv2.weight", "fc.weight", "fc.bias"}
    assert set(split_for(Editor(GD(0.1)), own, "fc").names) == {"fc.weight", "fc.bias"}
    with pytest.raises(UserError):
        split_for(Editor(GD(0.1)), own, None)


@pytest.mark.parametrize("editor", [CodebookEditor(), StrengthSearch(CodebookEditor())])
def test_an_editor_that_brings_a_layer_gets_a_copy(editor: CodebookEditor) -> None:
    own, x = network(), torch.randn(2, 3, 32, 32)
    names = list(own.state_dict())
    split = split_for(editor, own, "fc")
    assert list(own.state_dict()) == names
    assert all(name.startswith("codebook.") for name in split.names)
    with torch.no_grad():
        assert torch.equal(split.suffix(split.prefix(x), {}), own(x))
        split.network.get_parameter("base.fc.bias").add_(1)
        assert not torch.equal(split.suffix(split.prefix(x), {}), own(x))


def test_a_network_that_processes_share_out_gets_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "is_sharded", lambda network: True)
    with pytest.raises(UserError, match=r"CodebookEditor changes a layer of its own .*: use trainer\.strategy=ddp"):
        split_for(CodebookEditor(), network(), None)
