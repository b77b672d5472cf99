"""One rule is put into a layer in all ways: what survives, what is counted, and what is left alone."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.callbacks import RunReport
from editable.callbacks.invert.callback import InverseDirectionStudy
from editable.callbacks.invert.methods import METHODS, chosen_methods
from editable.data import DigitsDataModule, ImageFolderDataModule, RewriteRule
from editable.errors import UserError
from editable.rewriting import LayerBlock
from editable.tasks import ClassificationTask
from tests.callbacks.rewrite.test_callback import SIZE, draw, errors, save

FOURIER = {"fourier_full_size", "fourier_cut"}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Of random weights: what is looked at is that figures are those of the rewritten network, not that it is good."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 2),
    ).eval()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, exemplars with masks of the lower half, others that are held out, and a blue texture."""
    root = tmp_path_factory.mktemp("rule")
    generator = torch.Generator().manual_seed(1)
    for split, count in (("train", 40), ("test", 30)):
        save(root / split, *draw(count, generator, blue=0.0))
    for name, numbers in (("masks", range(6)), ("held_out", range(6, 14))):
        files = [f"train/{('dark', 'light')[number % 2]}/{number:03}.png" for number in numbers]
        masks = [{"image": file, "box": [0, SIZE // 2, SIZE, SIZE]} for file in files]
        (root / f"{name}.json").write_text(json.dumps({"masks": masks}))
    save(root, torch.tensor([0.0, 0.1, 0.95]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE), torch.tensor([0]))
    return root


def rule(root: Path, name: str = "masks", **settings) -> RewriteRule:
    return RewriteRule(str(root / f"{name}.json"), texture=str(root / "dark" / "000.png"), **settings)


def run(make_trainer, network, root, folder, **settings):
    """Study as the command line does; the callback, and the metrics and the report that are left behind."""
    study = InverseDirectionStudy(rule(root), **{"layer": "2", "cache": None, **settings})
    trainer = make_trainer(callbacks=[study, RunReport()], default_root_dir=folder)
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=(0.5,) * 3, std=(0.25,) * 3)
    trainer.test(ClassificationTask(network), data, verbose=False)
    return study, json.loads((folder / "metrics.json").read_text()), (folder / "report.md").read_text()


def test_every_method_is_measured_with_the_network_that_it_makes(make_trainer, network, root, tmp_path):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    study, metrics, report = run(make_trainer, network, root, tmp_path, held_out=rule(root, "held_out"))
    assert set(study.outcomes) == set(METHODS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert metrics["invert_report_error_before"] == pytest.approx(errors(network, root, "test"), abs=1e-6)
    assert metrics["invert_num_report_images"] == 30
    assert metrics["invert_num_held_out_images"] == 8
    for name in set(METHODS) - FOURIER:
        found = errors(network, root, "test", study.outcomes[name].result.params)
        assert metrics[f"invert_{name}_report_error"] == pytest.approx(found, abs=1e-6), name
    text = {name: METHODS[name].label for name in METHODS}
    assert all(label in report for label in text.values())


def test_what_survives_is_told(make_trainer, network, root, tmp_path):
    """K* and V* are the mean outputs and patches inside the mask, taken here with unfold."""
    study, metrics, report = run(make_trainer, network, root, tmp_path)
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=(0.5,) * 3, std=(0.25,) * 3)
    share = functional.adaptive_avg_pool2d(study.rule.masks[:, None], SIZE // 2).flatten()
    patches, targets = (
        functional.unfold(network[:2](data.normalisation(images)).detach(), 3, padding=1)
        .transpose(0, 1)
        .flatten(1)
        .double()
        for images in (study.rule.manipulated, study.rule.originals)
    )
    matrix = network[2].weight.detach().double().flatten(1)
    seen, wanted = patches @ share.double() / share.sum(), matrix @ (targets @ share.double() / share.sum())
    for name in ("closed_form_patch", "pseudo_inverse_patch", "transpose_patch"):
        weight = study.outcomes[name].result.params["2.weight"].double().flatten(1)
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


def test_the_exact_solution_changes_outputs_least_among_kernels_of_its_size(make_trainer, network, root, tmp_path):
    """On the very images of the second moment; the one of pixels meets more than one constraint."""
    _, metrics, _ = run(make_trainer, network, root, tmp_path)
    changes = {name: metrics[f"invert_{name}_output_change"] for name in METHODS}
    for name in ("pseudo_inverse_patch", "fourier_cut", "closed_form_pixel"):
        assert changes["closed_form_patch"] < changes[name]


def test_a_full_size_kernel_is_counted_uncut(make_trainer, network, root, tmp_path):
    study, metrics, _ = run(make_trainer, network, root, tmp_path, methods=["fourier_full_size", "fourier_cut"])
    (change,) = study.outcomes["fourier_full_size"].result.params.values()

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


def test_strengths(make_trainer, network, root, tmp_path):
    methods = ["closed_form_pixel", "fourier_full_size"]
    study, metrics, report = run(make_trainer, network, root, tmp_path, methods=methods, strengths=[1, 0, 0.5])
    assert study.strengths == [0, 0.5, 1]
    for name in methods:
        for some, errors_before in study.before.items():
            assert study.outcomes[name].errors[0][some].after == errors_before.before
    with (tmp_path / "methods.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], float(row["strength"])) for row in rows] == [
        (name, strength) for name in methods for strength in (0, 0.5, 1)
    ]
    whole = [float(row["report_error"]) for row in rows if row["strength"] == "1"]
    assert whole == pytest.approx([metrics[f"invert_{name}_report_error"] for name in methods], abs=1e-6)
    assert "](trade_off.png)" in report
    assert "Nothing was rewritten in the inverse direction" in report


@pytest.mark.parametrize("layer", ["0", "7"])
def test_layers_that_have_no_full_size_kernel_are_rewritten_by_the_others(make_trainer, network, root, tmp_path, layer):
    study, metrics, _ = run(make_trainer, network, root, tmp_path, layer=layer, num_images=10, moment_split="test")
    expected = set(METHODS) - FOURIER
    if layer == "7":  # of a linear layer, both memories are the same
        expected = {name for name in expected if name.endswith("pixel")}
        assert metrics["invert_pseudo_inverse_pixel_survives"] == 1  # [2, 32]: fewer outputs than inputs
    assert set(study.outcomes) == expected
    assert metrics["invert_num_report_images"] == 10
    with pytest.raises(UserError, match=f"'{layer}' is no convolution of stride 1 .* leave the methods of the Fourier"):
        chosen_methods(["fourier_cut"], LayerBlock(network, layer))


def test_images_are_drawn_by_seed(make_trainer, network, root, tmp_path):
    drawn = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        settings = {"methods": ["closed_form_pixel"], "num_moment_images": 5, "seed": seed}
        study, _, _ = run(make_trainer, network, root, tmp_path / name, **settings)
        drawn[name] = study.outcomes["closed_form_pixel"].result.params["2.weight"]
    assert torch.equal(drawn["a"], drawn["b"])
    assert not torch.equal(drawn["a"], drawn["c"])


MISTAKES = {
    "two of a kind": ({"methods": ["fourier_cut", "fourier_cut"]}, "must be different ones of closed_form_pixel"),
    "unknown": ({"methods": ["inverse"]}, r"got \['inverse'\]"),
    "none": ({"methods": []}, "and at least one"),
    "strength": ({"strengths": [float("nan")]}, "must be finite numbers"),
    "moment images": ({"num_moment_images": 0}, "num_moment_images must be at least 1"),
    "images": ({"num_images": 0}, "num_images must be at least 1"),
    "seed": ({"seed": -1}, "seed must be at least 0"),
    "memory": ({"memory_budget": 0}, "memory_budget, in GiB, must be positive, got 0"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_numbers_out_of_range(root, settings, message):
    with pytest.raises(UserError, match=message):
        InverseDirectionStudy(rule(root), "2", **settings)


def test_unsuitable_input_is_told_before_anything_is_computed(make_trainer, network, root, tmp_path):
    with pytest.raises(UserError, match="has no layer 'layer9'"):
        run(make_trainer, network, root, tmp_path, layer="layer9")
    with pytest.raises(UserError, match="'0' is no convolution of stride 1 whose outputs are as large as its inputs"):
        run(make_trainer, network, root, tmp_path, layer="0", methods=["fourier_full_size"])
    with pytest.raises(UserError, match="give the rule the data module's image_size"):
        run(make_trainer, network, root, tmp_path, held_out=rule(root, image_size=8))
    study, data = InverseDirectionStudy(rule(root), "2", cache=None), DigitsDataModule()
    inference = make_trainer(callbacks=[study], inference_mode=True)
    with pytest.raises(UserError, match="inference_mode=False"):
        inference.test(ClassificationTask(network), data, verbose=False)
    study = InverseDirectionStudy(rule(root), "1", cache=None)
    other_classes, digits = make_trainer(callbacks=[study]), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(UserError, match="dark"):
        other_classes.test(ClassificationTask(digits), data, verbose=False)


def test_a_weight_of_zeros_has_no_inverse(make_trainer, network, root, tmp_path):
    zero = nn.Sequential(*network[:2], nn.Conv2d(6, 8, 3, padding=1, bias=False), *network[3:]).eval()
    nn.init.zeros_(zero[2].weight)
    with pytest.raises(UserError, match="a weight that is zero throughout has no inverse"):
        run(make_trainer, zero, root, tmp_path, methods=["pseudo_inverse_patch"])
