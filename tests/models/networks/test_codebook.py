"""The codebook: a plain loop gives the same, what does not fire is bit-identical; traced, exported, loaded."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from editable.errors import UserError
from editable.models import Codebook, SplitNetwork, add_codebook, cifar_resnet, select_parameters

FEATURES, CLASSES = 6, 4


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def codebook_with(rows: int, threshold: float = 0.5, dtype: torch.dtype = torch.float64) -> Codebook:
    """An empty row and others, in a space that is shifted and whitened at random."""
    codebook = Codebook(FEATURES, CLASSES, margin=0.7).to(dtype)
    with torch.no_grad():
        codebook.mean.copy_(drawn(FEATURES, seed=1))
        codebook.whitening.copy_(drawn(FEATURES, FEATURES, seed=2))
        codebook.resize(1 + rows)
        codebook.match.weight[1:] = functional.normalize(drawn(rows, FEATURES, seed=3, dtype=dtype))
        codebook.thresholds[0] = 1
        codebook.thresholds[1:] = threshold
        codebook.values[1:] = functional.one_hot(torch.arange(rows) % CLASSES, CLASSES)
    return codebook


def plain(codebook: Codebook, x: Tensor, logits: Tensor) -> list[list[float]]:
    """One input and one row after the other."""
    out = []
    for h, own in zip(x, logits, strict=True):
        q = codebook.whitening @ (h - codebook.mean)
        q = q / q.norm()
        best, chosen = 0.0, None
        for row, (key, threshold) in enumerate(zip(codebook.match.weight, codebook.thresholds, strict=True)):
            cosine = float(q @ key)
            if cosine >= threshold and cosine > best:
                best, chosen = cosine, row
        scores = own.tolist()
        if chosen is not None:
            label = int(codebook.values[chosen].argmax())
            others = max(score for other, score in enumerate(scores) if other != label)
            scores[label] = max(scores[label], others + codebook.margin)
        out.append(scores)
    return out


@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.7])
def test_forward(threshold: float):
    codebook = codebook_with(9, threshold)
    x, logits = drawn(60, FEATURES, seed=4), drawn(60, CLASSES, seed=5)
    with torch.no_grad():
        out = codebook(x, logits)
        expected = torch.tensor(plain(codebook, x, logits), dtype=torch.float64)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    fires = (codebook.query(x) @ codebook.match.weight.T >= codebook.thresholds).any(dim=1)
    assert 0 < fires.sum() < 60
    assert torch.equal(out[~fires], logits[~fires]), "bit for bit"
    assert (out != logits).sum(dim=1).max() == 1, "only the asked label's logit moves"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_codebook_changes_nothing(dtype: torch.dtype):
    codebook, logits = Codebook(FEATURES, CLASSES).to(dtype), drawn(5, CLASSES, dtype=dtype)
    x = torch.cat([drawn(3, FEATURES, dtype=dtype), torch.zeros(2, FEATURES, dtype=dtype)])
    assert torch.equal(codebook(x, logits), logits)
    assert torch.equal(codebook_with(3, dtype=dtype)(codebook_with(3).mean.to(dtype).expand(5, -1), logits), logits)


def test_a_label_that_leads_by_more_stays_as_it_is():
    codebook = codebook_with(1, 0.1)
    x = codebook.mean + torch.linalg.solve(codebook.whitening, codebook.match.weight[1])
    logits = torch.tensor([[3.0, 1.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0]], dtype=torch.float64)
    out = codebook(x.expand(2, -1), logits)
    assert out[0].equal(logits[0])
    torch.testing.assert_close(out[1], torch.tensor([1.2, 0.5, 0.0, 0.0], dtype=torch.float64))


def test_values_that_are_not_finite_do_not_fire():
    codebook, logits = codebook_with(5, 0.1), drawn(1, CLASSES)
    x = torch.full((1, FEATURES), torch.nan, dtype=torch.float64)
    assert torch.equal(codebook(x, logits), logits)


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(CLASSES, 2, (1, 1, 1, 1), 3).to(dtype).eval()


def images(number: int = 8) -> Tensor:
    return drawn(number, 3, 8, 8, seed=7, dtype=torch.float32)


def filled(rows: int = 5, threshold: float = 0.3) -> nn.Module:
    """A network with a codebook that fires for some of the images, and not for others."""
    some = add_codebook(network())
    codebook, read = some.fc.codebook, []
    handle = some.fc.register_forward_pre_hook(lambda layer, arguments: read.append(arguments[0]))
    with torch.no_grad():
        some(images())
        handle.remove()
        codebook.mean.copy_(read[0].mean(dim=0))
        codebook.resize(1 + rows)
        codebook.thresholds.fill_(threshold)
        codebook.match.weight[1:] = codebook.query(read[0][:rows])
        codebook.thresholds[1:] = 0.999
        codebook.values[1:] = functional.one_hot(torch.arange(rows) % CLASSES, CLASSES)
    return some


def test_it_goes_behind_the_classifier_and_changes_no_logit():
    plain_network, some = network(), network()
    with torch.no_grad():
        before = some(images())
        assert add_codebook(some) is some
        assert torch.equal(some(images()), before)
    own = ["fc.codebook.thresholds", "fc.codebook.values", "fc.codebook.match.weight"]
    assert sorted(select_parameters(some, "codebook")) == sorted(own)
    names = [name for name, _ in plain_network.named_parameters()]
    assert [name for name, _ in some.named_parameters() if name not in own] == names
    assert not any(module.training for module in some.modules())


def test_precision_is_the_networks():
    some = add_codebook(network(torch.float64))
    assert {tensor.dtype for tensor in some.fc.state_dict().values()} == {torch.float64}


def test_weights_that_are_tied_stay_tied():
    some = network()
    weight = some.fc.weight
    assert add_codebook(some).fc.weight is weight


def test_traced_split_and_exported():
    some, x = filled(), images()
    with torch.no_grad():
        expected, before = some(x), network()(x)
        fired = (expected != before).any(dim=1)
        assert fired.any()
        assert not fired.all()
        split = SplitNetwork(some, "codebook")
        assert torch.equal(split.suffix(split.prefix(x), split.params), expected)
        exported = torch.export.export(some, (x,)).module()
        torch.testing.assert_close(exported(x), expected, rtol=1e-5, atol=1e-6)
        assert exported(x).argmax(dim=1).equal(expected.argmax(dim=1))


def test_a_state_with_rows_loads():
    some = filled(5)
    other = add_codebook(network())
    other.load_state_dict(some.state_dict())
    assert len(other.fc.codebook.thresholds) == 6
    with torch.no_grad():
        assert torch.equal(other(images()), some(images()))
        assert torch.equal(copy.deepcopy(some)(images()), some(images()))
    other.load_state_dict(add_codebook(network()).state_dict())
    assert len(other.fc.codebook.thresholds) == 1
    with torch.no_grad():
        assert torch.equal(other(images()), network()(images())), "and one without rows takes them away"


def test_a_state_of_the_network_without_it_lacks_the_codebook():
    missing = add_codebook(network()).load_state_dict(network().state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("fc.codebook.") for name in missing.missing_keys)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x) if x.sum() > 0 else self.body(-x))


def test_mistakes():
    with pytest.raises(UserError, match="CifarResNet has a codebook already: one is enough"):
        add_codebook(add_codebook(network()))
    with pytest.raises(
        UserError, match=r"a codebook goes with a linear layer, but 'layer1' of CifarResNet is a Sequential"
    ):
        add_codebook(network(), "layer1")
    with pytest.raises(UserError, match=r"a codebook goes with a linear layer, but 'head' of CifarResNet is not there"):
        add_codebook(network(), "head")
    with pytest.raises(UserError, match=r"the last layer of SqueezeNet, 'classifier.1', is a Conv2d"):
        add_codebook(models.squeezenet1_1(num_classes=3))
    with pytest.raises(UserError, match=r"which torch.fx cannot trace: give its name, its last linear layer is 'head'"):
        add_codebook(Untraceable())
    assert isinstance(add_codebook(Untraceable(), "head").head.codebook, Codebook)
    with pytest.raises(UserError, match="margin must be positive, got 0"):
        add_codebook(network(), margin=0)
    with pytest.raises(UserError, match="features must be positive, got -1"):
        Codebook(-1, 3)
