"""A product by oneDNN is that by ``@``, with its derivatives, whichever way the matrices lie; elsewhere it is ``@``."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from editable.models.machine import product as file
from editable.models.machine.product import batched_product, product
from tests.models.reference import normal

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": torch.Tensor.contiguous,
    "columns": lambda matrix: matrix.t().contiguous().t(),
    "every second": lambda matrix: matrix.repeat_interleave(2, 1)[:, ::2],
}


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(file, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(file, "LEAST", 0)


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize(("m", "k", "n"), [(5, 7, 3), (1, 7, 3), (5, 1, 3), (5, 7, 1), (1, 1, 1), (5, 0, 3)])
def test_values(m: int, k: int, n: int, left: str, right: str, onednn: None):
    a, b = LAYOUTS[left](normal(m, k).float()), LAYOUTS[right](normal(k, n, seed=1).float())
    torch.testing.assert_close(product(a, b), (a.double() @ b.double()).float())


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("differentiable", [False, True])
def test_batches(given: bool, differentiable: bool, onednn: None):
    a, b = normal(3, 4, 6).float().requires_grad_(differentiable), normal(3, 6, 5, seed=1).float()
    out = torch.empty(3, 4, 5) if given and not differentiable else None
    ours = batched_product(a, b, out)
    assert ours.requires_grad == differentiable
    assert out is None or ours is out
    torch.testing.assert_close(ours, a @ b)


@pytest.mark.parametrize(
    ("kind", "name", "faster"),
    [
        ("AVX-512 BF16", "AMD EPYC 9R14", True),
        ("AVX-512", "AMD Ryzen 9 7950X", True),
        ("AVX-512 BF16", "Intel(R) Xeon(R) Processor", False),  # whose MKL it is
        ("AVX-512", "Intel64 Family 6 Model 85 Stepping 7, GenuineIntel", False),
        ("AMX", "Intel(R) Xeon(R) Processor", False),
        ("AVX2", "AMD EPYC 7763", False),
    ],
)
def test_where_it_is_used(kind: str, name: str, faster: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file, "processor", lambda: kind)
    monkeypatch.setattr(file, "processor_name", lambda: name)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert file._onednn_is_faster.__wrapped__() == faster


def second_derivatives(multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    first = torch.autograd.grad(multiply(a, b).sin().sum(), (a, b), create_graph=True)
    return (*first, *torch.autograd.grad(sum((some.cos().sum() for some in first), a.sum()), (a, b)))


@pytest.mark.parametrize("left", ["rows", "columns"])
def test_derivatives(left: str, onednn: None):
    a, b = LAYOUTS[left](normal(4, 6)).requires_grad_(), normal(6, 3, seed=1).requires_grad_()
    expected = second_derivatives(torch.matmul, a, b)
    ours = second_derivatives(product, *(some.detach().float().requires_grad_() for some in (a, b)))
    for some, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(some.double(), reference, rtol=1e-4, atol=1e-4)


def test_one_side_alone_is_differentiated(onednn: None):
    a, b = normal(4, 6).float(), normal(6, 3, seed=1).float().requires_grad_()
    (gradient,) = torch.autograd.grad(product(a, b).sum(), b)
    torch.testing.assert_close(gradient, a.sum(dim=0).unsqueeze(1).expand(6, 3))


def test_where_onednn_does_not_apply(onednn: None, monkeypatch: pytest.MonkeyPatch):
    """Other precisions, autocast and vmap are left to ``@``, as is everything where oneDNN is not faster."""

    def fail(left: Tensor, right: Tensor) -> Tensor:
        raise AssertionError("went to oneDNN")

    monkeypatch.setattr(file, "_by_onednn", fail)
    a, b = normal(4, 6), normal(6, 3, seed=1)
    assert torch.equal(product(a, b), a @ b)
    assert product(a.half(), b.half()).dtype == torch.float16
    with torch.autocast("cpu", torch.bfloat16):
        assert product(a.float(), b.float()).dtype == torch.bfloat16
    together = torch.func.vmap(product, in_dims=(0, None))(a.float().expand(2, 4, 6), b.float())
    torch.testing.assert_close(together, (a @ b).float().expand(2, 4, 3))
    with pytest.raises(AssertionError, match="oneDNN"):
        product(a.float(), b.float())
    monkeypatch.setattr(file, "LEAST", 4 * 6 * 3 + 1)
    assert torch.equal(product(a.float(), b.float()), a.float() @ b.float())
    monkeypatch.setattr(file, "LEAST", 0)
    monkeypatch.setattr(file, "_onednn_is_faster", lambda: False)
    assert torch.equal(product(a.float(), b.float()), a.float() @ b.float())
