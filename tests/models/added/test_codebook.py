"""The codebook: a plain loop gives the same, and what does not fire is bit-identical."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError
from editable.models import Codebook

FEATURES, CLASSES = 6, 4
SHARES = {(6,): (1.0,), (2, 4): (0.3, 0.7), (1, 2, 3): (0.5, 0.2, 0.3)}
"""By the sizes of what layers read, w."""


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def codebook_with(
    rows: int,
    threshold: float = 0.5,
    dtype: torch.dtype = torch.float64,
    sizes: tuple[int, ...] = (FEATURES,),
    strength: float = 0.0,
    radius: float = 0.2,
    power: float = 3.0,
) -> Codebook:
    """An empty row and others, in spaces that are shifted and whitened at random; odd rows have a kernel's strength."""
    codebook = Codebook(sizes, CLASSES, margin=0.7).to(dtype)
    with torch.no_grad():
        for index, (space, size) in enumerate(zip(codebook.spaces, sizes, strict=True)):
            space.mean.copy_(drawn(size, seed=10 + index))
            space.whitening.copy_(drawn(size, size, seed=20 + index))
            space.weight.fill_(SHARES[sizes][index])
        codebook.radius.fill_(radius)
        codebook.power.fill_(power)
        codebook.resize(1 + rows)
        codebook.match.weight[1:] = codebook.query(drawn(rows, FEATURES, seed=3, dtype=dtype))
        codebook.thresholds[0] = 1
        codebook.thresholds[1:] = threshold
        codebook.values[1:] = functional.one_hot(torch.arange(rows) % CLASSES, CLASSES)
        if strength:
            odd = torch.arange(1, 1 + rows, 2)
            codebook.strengths[odd] = strength * torch.arange(1, 1 + len(odd)).to(dtype)
            codebook.values[odd] -= functional.one_hot((odd + 1) % CLASSES, CLASSES).to(dtype)
    return codebook


def cosine(codebook: Codebook, h: Tensor, key: Tensor) -> float:
    """Σ_l w_l cos(M_l (h_l − μ_l), k_l), where a key's parts have the length √w_l."""
    total, first = 0.0, 0
    for space, size in zip(codebook.spaces, codebook.sizes, strict=True):
        part, own = slice(first, first + size), space.whitening @ (h[first : first + size] - space.mean)
        if key[part].norm() > 0:
            total += float(space.weight * functional.cosine_similarity(own, key[part], dim=0))
        first += size
    return total


def plain(codebook: Codebook, x: Tensor, logits: Tensor) -> tuple[list[list[float]], list[bool]]:
    """One input and one row after the other; and whether any row touches it."""
    out, fires = [], []
    for h, own in zip(x, logits, strict=True):
        best, chosen, touched, scores = 0.0, None, False, own.tolist()
        for row, (key, threshold) in enumerate(zip(codebook.match.weight, codebook.thresholds, strict=True)):
            c = cosine(codebook, h, key)
            if c >= threshold and c > best:
                best, chosen = c, row
            if codebook.strengths[row] != 0 and c > float(codebook.radius):
                touched = True
                kernel = ((c - float(codebook.radius)) / (1 - float(codebook.radius))) ** float(codebook.power)
                for label in range(CLASSES):
                    scores[label] += float(codebook.strengths[row] * codebook.values[row, label]) * kernel
        if chosen is not None:
            label = int(codebook.values[chosen].argmax())
            others = max(score for other, score in enumerate(scores) if other != label)
            scores[label] = max(scores[label], others + codebook.margin)
        out.append(scores)
        fires.append(touched or chosen is not None)
    return out, fires


@pytest.mark.parametrize("sizes", SHARES)
@pytest.mark.parametrize("strength", [0.0, 1.5])
@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7])
def test_forward(threshold: float, strength: float, sizes: tuple[int, ...]):
    for radius, power in ((0.4, 3.0), (0.7, 0.5)):
        codebook = codebook_with(9, threshold, sizes=sizes, strength=strength, radius=radius, power=power)
        x, logits = drawn(60, FEATURES, seed=4), drawn(60, CLASSES, seed=5)
        with torch.no_grad():
            out, fires = codebook(x, logits), codebook.fires(x)
            expected, touched = plain(codebook, x, logits)
        torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)
        assert fires.tolist() == touched
        assert 0 < fires.sum() < 60
        assert torch.equal(out[~fires], logits[~fires]), "bit for bit"
        if not strength:
            assert (out != logits).sum(dim=1).max() == 1, "only the asked label's logit moves"


def test_the_kernel():
    """Of compact support, one at the key itself, and nothing of NaN."""
    codebook = codebook_with(1, radius=0.25, power=2.0)
    cosines = torch.tensor([1.0, 0.625, 0.25, 0.1, -1.0, torch.nan], dtype=torch.float64)
    assert codebook.kernel(cosines).tolist() == [1, 0.25, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_codebook_changes_nothing(dtype: torch.dtype):
    codebook, logits = Codebook(FEATURES, CLASSES).to(dtype), drawn(5, CLASSES, dtype=dtype)
    x = torch.cat([drawn(3, FEATURES, dtype=dtype), torch.zeros(2, FEATURES, dtype=dtype)])
    assert torch.equal(codebook(x, logits), logits)
    assert torch.equal(
        codebook_with(3, dtype=dtype)(codebook_with(3).spaces[0].mean.to(dtype).expand(5, -1), logits), logits
    )


def test_a_label_that_leads_by_more_stays_as_it_is():
    codebook = codebook_with(1, 0.1)
    space = codebook.spaces[0]
    x = space.mean + torch.linalg.solve(space.whitening, codebook.match.weight[1])
    logits = torch.tensor([[3.0, 1.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0]], dtype=torch.float64)
    out = codebook(x.expand(2, -1), logits)
    assert out[0].equal(logits[0])
    torch.testing.assert_close(out[1], torch.tensor([1.2, 0.5, 0.0, 0.0], dtype=torch.float64))


def test_values_that_are_not_finite_do_not_fire():
    codebook, logits = codebook_with(5, 0.1, strength=1.0), drawn(1, CLASSES)
    x = torch.full((1, FEATURES), torch.nan, dtype=torch.float64)
    assert torch.equal(codebook(x, logits), logits)
    assert not codebook.fires(x).any()


def test_mistakes():
    with pytest.raises(UserError, match="features must be positive, got -1"):
        Codebook(-1, 3)
    with pytest.raises(UserError, match=r"features must be positive, got \[3, 0\]"):
        Codebook([3, 0], 3)
    with pytest.raises(UserError, match="margin must be positive, got 0"):
        Codebook(3, 3, margin=0)
