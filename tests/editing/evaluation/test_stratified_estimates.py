"""The formulas of stratified sampling, against all samples of a tiny population."""

from itertools import combinations, product

import pytest
import torch

from editable.editing.evaluation.stratified_estimates import stratified_estimates


def test_formula_is_unbiased_over_all_samples_of_a_tiny_population() -> None:
    population = torch.tensor([1, 0, 0, 1, -1, 0])
    strata = [(0, 1, 2, 3), (4, 5)], [(0, 1, 2), (3, 4, 5)]
    for parts, counts in product(strata, ((2, 2), (3, 2))):
        if any(count > len(part) for part, count in zip(parts, counts, strict=True)):
            continue
        choices = [combinations(part, count) for part, count in zip(parts, counts, strict=True)]
        samples = torch.tensor([sum(choice, ()) for choice in product(*choices)])
        columns = torch.arange(2).repeat_interleave(torch.tensor(counts))
        sizes = torch.tensor([len(part) for part in parts])
        means, contributions = stratified_estimates(population[samples], columns, sizes)
        assert means.mean().item() == pytest.approx(population.double().mean().item(), abs=1e-12)
        true_variance = means.var(correction=0).item()
        assert contributions.sum(dim=1).mean().item() == pytest.approx(true_variance, abs=1e-12)


def test_estimate_weighs_strata_by_their_size() -> None:
    sizes, strata = torch.tensor([8, 2]), torch.tensor([0, 0, 0, 1, 1])
    means, contributions = stratified_estimates(torch.tensor([[1, 0, 0, 0, 1]]), strata, sizes)
    assert means.item() == pytest.approx(0.8 / 3 + 0.2 / 2)
    assert contributions.tolist() == [[pytest.approx(0.8**2 * (1 - 3 / 8) / 3 / 3), 0]]
