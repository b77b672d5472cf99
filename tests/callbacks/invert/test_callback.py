"""One rule is put into a layer in all ways: what survives, what is counted, and what is left alone."""

import csv

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.callbacks.invert.callback import InverseDirectionStudy
from editable.callbacks.invert.methods import METHODS
from editable.callbacks.site.moment import MomentSettings
from editable.data import DigitsDataModule
from editable.errors import UserError
from editable.tasks import ClassificationTask
from tests.callbacks.invert.studies import SIZE, errors, images_of, make_network, rule, study

FOURIER = {"fourier_full_size", "fourier_cut"}


def test_every_method_is_measured_with_the_network_that_it_makes(studied, network, root):
    callback, _, metrics, report = studied
    assert set(callback.outcome.methods) == set(METHODS)
    before = make_network().state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert metrics["invert_report_error_before"] == pytest.approx(errors(network, root, "test"), abs=1e-6)
    assert metrics["invert_num_report_images"] == 30
    assert metrics["invert_num_held_out_images"] == 8
    for name in set(METHODS) - FOURIER:
        params = {key: param.cpu() for key, param in callback.results[name].params.items()}
        found = errors(network, root, "test", params)
        assert metrics[f"invert_{name}_report_error"] == pytest.approx(found, abs=1e-6), name
    text = {name: METHODS[name].label for name in METHODS}
    assert all(label in report for label in text.values())


def test_what_survives_is_told(studied, network, root):
    """K* and V* are the mean outputs and patches inside the mask, taken here with unfold."""
    callback, _, metrics, report = studied
    data = images_of(root)
    share = functional.adaptive_avg_pool2d(callback.rule.masks[:, None], SIZE // 2).flatten()
    patches, targets = (
        functional.unfold(network[:2](data.normalisation(images)).detach(), 3, padding=1)
        .transpose(0, 1)
        .flatten(1)
        .double()
        for images in (callback.rule.manipulated, callback.rule.originals)
    )
    matrix = network[2].weight.detach().double().flatten(1)
    seen, wanted = patches @ share.double() / share.sum(), matrix @ (targets @ share.double() / share.sum())
    for name in ("closed_form_patch", "pseudo_inverse_patch", "transpose_patch"):
        weight = callback.results[name].params["2.weight"].cpu().double().flatten(1)
        found = float((weight @ seen - wanted).norm() / wanted.norm())
        assert metrics[f"invert_{name}_residual"] == pytest.approx(found, rel=1e-5, abs=1e-6), name
    before = float((matrix @ seen - wanted).norm() / wanted.norm())
    assert metrics["invert_closed_form_patch_residual_before"] == pytest.approx(before, rel=1e-5)
    assert metrics["invert_pseudo_inverse_patch_survives"] == 1
    assert metrics["invert_pseudo_inverse_patch_residual"] < 1e-6
    assert metrics["invert_transpose_patch_survives"] == 0
    assert metrics["invert_transpose_patch_inverse_residual"] < 1e-6
    assert metrics["invert_pseudo_inverse_pixel_survives"] == 0
    assert "invert_closed_form_patch_survives" not in metrics
    assert "W†, arch. 4: the rule survives" in report
    assert "the memory's matrix [72, 6] has more rows than columns" in report
    assert "a transpose is no inverse" in report


def test_the_exact_solution_changes_outputs_least_among_kernels_of_its_size(studied):
    """On the very images of the second moment; the one of pixels meets more than one constraint."""
    changes = {name: studied.metrics[f"invert_{name}_output_change"] for name in METHODS}
    for name in ("pseudo_inverse_patch", "fourier_cut", "closed_form_pixel"):
        assert changes["closed_form_patch"] < changes[name]


def test_a_full_size_kernel_is_counted_uncut(studied, network, root):
    metrics = studied.metrics
    (change,) = (param.cpu() for param in studied.callback.results["fourier_full_size"].params.values())

    class Periodic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            taps = [(row, column) for row in range(SIZE // 2) for column in range(SIZE // 2)]
            return network[2](x) + sum(
                torch.einsum("fc,ncqr->nfqr", change[:, :, row, column], x.roll((-row, -column), (2, 3)))
                for row, column in taps
            )

    whole = nn.Sequential(*network[:2], Periodic(), *network[3:])
    expected = errors(whole, root, "test")
    assert metrics["invert_fourier_full_size_report_error"] == pytest.approx(expected, abs=1e-6)
    assert metrics["invert_fourier_full_size_residual"] < 1e-5
    assert metrics["invert_fourier_cut_residual"] < 1e-5


def test_strengths(studied):
    callback, folder, metrics, report = studied
    assert callback.strengths == [0, 0.5, 1]
    for method in callback.outcome.methods.values():
        for some, errors_before in callback.outcome.before.items():
            assert method.errors[0][some].after == errors_before.before
    with (folder / "methods.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], float(row["strength"])) for row in rows] == [
        (name, strength) for name in METHODS for strength in (0, 0.5, 1)
    ]
    whole = [float(row["report_error"]) for row in rows if row["strength"] == "1"]
    assert whole == pytest.approx([metrics[f"invert_{name}_report_error"] for name in METHODS], abs=1e-6)
    assert "](trade_off.png)" in report


@pytest.mark.filterwarnings("ignore:30 keys .* are fewer than the 32 entries of a key")
@pytest.mark.parametrize("layer", ["0", "7"])
def test_layers_that_have_no_full_size_kernel_are_rewritten_by_the_others(make_trainer, network, root, layer):
    moment = {"split": "test"}
    callback, logged, _ = study(make_trainer, network, root, moment, layer=layer, num_images=10)
    expected = set(METHODS) - FOURIER
    if layer == "7":  # of a linear layer, both memories are the same
        expected = {name for name in expected if name.endswith("pixel")}
        assert logged["invert_pseudo_inverse_pixel_survives"] == 1  # [2, 32]: fewer outputs than inputs
    assert set(callback.outcome.methods) == expected
    assert logged["invert_num_report_images"] == 10


def test_images_are_drawn_by_seed(make_trainer, network, root):
    drawn = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        moment, settings = {"num_images": 5, "seed": seed}, {"methods": ["closed_form_pixel"], "seed": seed}
        callback, _, _ = study(make_trainer, network, root, moment, **settings)
        drawn[name] = callback.results["closed_form_pixel"].params["2.weight"]
    assert torch.equal(drawn["a"], drawn["b"])
    assert not torch.equal(drawn["a"], drawn["c"])


MISTAKES = {
    "two of a kind": ({"methods": ["fourier_cut", "fourier_cut"]}, "must be different ones of closed_form_pixel"),
    "unknown": ({"methods": ["inverse"]}, r"got \['inverse'\]"),
    "none": ({"methods": []}, "and at least one"),
    "route": ({"route": "image"}, "invert.route is 'image', but must be one of images, features"),
    "strength": ({"strengths": [float("nan")]}, "strengths must be finite"),
    "moment images": ({"moment": {"num_images": 0}}, r"moment\.num_images must be at least 1"),
    "images": ({"num_images": 0}, "num_images must be at least 1"),
    "seed": ({"seed": -1}, "seed must be at least 0"),
    "memory": ({"memory_budget": 0}, "memory_budget must be positive, got 0"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_numbers_out_of_range(root, settings, message):
    with pytest.raises(UserError, match=message):
        InverseDirectionStudy(rule(root), "2", **settings | {"moment": MomentSettings(**settings.get("moment", {}))})


def test_unsuitable_input_is_told_before_anything_is_computed(make_trainer, network, root):
    with pytest.raises(UserError, match="has no layer 'layer9'"):
        study(make_trainer, network, root, layer="layer9")
    with pytest.raises(UserError, match="'0' is no convolution of stride 1 whose outputs are as large as its inputs"):
        study(make_trainer, network, root, layer="0", methods=["fourier_full_size"])
    with pytest.raises(UserError, match="give the rule the data module's image_size"):
        study(make_trainer, network, root, held_out=rule(root, image_size=8))
    callback, data = InverseDirectionStudy(rule(root), "2", moment=MomentSettings()), DigitsDataModule()
    inference = make_trainer(callbacks=[callback], inference_mode=True)
    with pytest.raises(UserError, match="inference_mode=False"):
        inference.test(ClassificationTask(network), data, verbose=False)
    callback = InverseDirectionStudy(rule(root), "1", moment=MomentSettings())
    other_classes, digits = make_trainer(callbacks=[callback]), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(UserError, match="dark"):
        other_classes.test(ClassificationTask(digits), data, verbose=False)


def test_a_weight_of_zeros_has_no_inverse(make_trainer, network, root):
    zero = nn.Sequential(*network[:2], nn.Conv2d(6, 8, 3, padding=1, bias=False), *network[3:]).eval()
    nn.init.zeros_(zero[2].weight)
    with pytest.raises(UserError, match="a weight that is zero throughout has no inverse"):
        study(make_trainer, zero, root, methods=["pseudo_inverse_patch"])
