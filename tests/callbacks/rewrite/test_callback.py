"""A rule is rewritten in a tested network: what is chosen, measured, kept and left alone."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.func import functional_call

from editable.callbacks.rewrite.routes import RouteComparison
from editable.callbacks.site.moment import MomentSettings
from editable.callbacks.site.rule_images import check_rules
from editable.data import ImageFolderDataModule, RewriteRule
from editable.editing import EditPatch
from editable.errors import UserError
from editable.rewriting import ClosedForm, FineTuning, LambdaDescent, SmoothDescent
from tests.callbacks.rewrite.runs import ROUTES, SEVERAL, make_data, rule, run, trial_rules
from tests.callbacks.site.dark_and_light import CLASSES, SIZE, errors


def test_one_rewrite_is_measured_on_every_set(single, network, before, root):
    _, metrics, folder = single
    checkpoint = torch.load(folder / "rewritten.ckpt", "cpu", weights_only=True)["state_dict"]
    params = {"0.weight": checkpoint["network.0.weight"]}
    assert torch.equal(single.rewrite.params["ClosedForm"]["0.weight"].cpu(), params["0.weight"])
    patch = EditPatch.load(folder / "rewrite.safetensors")
    with patch.applied(network):
        assert torch.equal(network[0].weight, params["0.weight"])
    assert patch.record.outcome["report_error"] == metrics["rewrite_report_error"]
    assert "0 recalls what is in the masks of" in patch.record.asked[0]
    assert metrics["test_error"] == pytest.approx(errors(network, root, "test"))
    assert metrics["rewrite_report_error_before"] == pytest.approx(metrics["test_error"])
    assert metrics["rewrite_report_error"] == pytest.approx(errors(network, root, "test", params))
    wrong = errors(network, root, "photographs"), errors(network, root, "photographs", params)
    assert metrics["rewrite_photographs_error_before"] == pytest.approx(wrong[0])
    assert metrics["rewrite_photographs_error"] == pytest.approx(wrong[1])
    assert metrics["rewrite_photographs_errors_corrected"] == pytest.approx((wrong[0] - wrong[1]) / wrong[0])
    assert wrong[0] > 0.3  # the concept does fool the network
    assert wrong[1] < wrong[0]  # and the rule holds on images that it was not made of
    assert metrics["rewrite_rank"] == 1
    assert metrics["rewrite_residual"] < 1e-5
    assert single.outcome.chosen == "ClosedForm"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    changed = [name for name, value in before.items() if not torch.equal(checkpoint[f"network.{name}"], value)]
    assert changed == ["0.weight"]


def test_the_closed_form_is_that_of_the_formula(single, network, root):
    """W₀ + (W₀k − W₀k*)(k*ᵀC⁻¹k*)⁻¹(C⁻¹k*)ᵀ from the pixels themselves: the first layer reads the images."""
    rules = rule(root)
    originals, manipulated = ((images.double() - 0.5) / 0.25 for images in (rules.originals, rules.manipulated))
    old, new = (images[:, :, SIZE // 2 :].mean((0, 2, 3)) for images in (originals, manipulated))
    files = sorted((root / "train").rglob("*.png"))
    # A tenth of the training images is held out for validation: the moment is over those that are left.
    data = make_data(root)
    data.setup("fit")
    used = [files.index(Path(data.train_dataset.images.dataset.paths[i])) for i in data.train_dataset.images.indices]
    pixels = [torch.from_numpy(np.array(Image.open(files[i]))).double().view(-1, 3) / 255 for i in sorted(used)]
    keys = (torch.cat(pixels) - 0.5) / 0.25
    moment = keys.T @ keys / len(keys)
    moment += 1e-4 * moment.trace() / 3 * torch.eye(3, dtype=torch.float64)
    weight = network[0].weight.detach().double()
    direction = torch.linalg.solve(moment, new)
    change = torch.einsum("fcmn,c->fmn", weight, old - new) / (new @ direction)
    expected = weight + torch.einsum("fmn,c->fcmn", change, direction)
    found = torch.load(single.folder / "rewritten.ckpt", "cpu", weights_only=True)["state_dict"]["network.0.weight"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_candidates_are_chosen_by_images_that_are_not_reported(several):
    outcome, metrics, folder = several.outcome, several.metrics, several.folder
    rows = list(csv.DictReader((folder / "candidates.csv").open()))
    # Two layers, two strengths; two ranks of both descents, one of the closed form.
    assert len(rows) == 2 * 2 * (1 + 2 + 2) == len(outcome.trials) == metrics["rewrite_num_candidates"]
    assert {row["others_num_images"] for row in rows} == {"30"}
    assert {row["target_num_images"] for row in rows} == {"8"}
    assert metrics["rewrite_num_report_images"] == 30
    allowed = [row for row in rows if float(row["drop"]) <= 0.2]
    best = max(float(row["corrected"]) for row in allowed)
    chosen = outcome.rewrites[outcome.chosen].trial
    assert chosen.target.corrected == best > 0
    assert chosen.others.drop == min(float(row["drop"]) for row in allowed if float(row["corrected"]) == best)
    table = list(csv.DictReader((folder / "solvers.csv").open()))
    assert len(table) == len(outcome.rewrites) <= 3
    report = (folder / "report.md").read_text()
    for figure in ("exemplars", "candidates", "layers", "heat_maps", "changed_photographs"):
        assert f"]({figure}.png)" in report
        assert (folder / f"{figure}.png").stat().st_size > 1000


def test_an_interrupted_run_goes_on(several, network, root, tmp_path, monkeypatch):
    settings = {**SEVERAL, "validation_rule": rule(root, "validation")}

    class Interruption(Exception):
        pass

    calls = []

    def interrupted(self, problem, progress=None):
        calls.append(problem)
        if len(calls) == 4:
            raise Interruption
        return original(self, problem, progress)

    original = LambdaDescent.__call__
    monkeypatch.setattr(LambdaDescent, "__call__", interrupted)
    with pytest.raises(Interruption):
        run(network, root, tmp_path / "first", **settings)
    monkeypatch.setattr(LambdaDescent, "__call__", original)
    assert not (tmp_path / "first" / "metrics.json").exists()
    resumed = run(network, root, tmp_path / "second", False, resume=str(tmp_path / "first"), **settings)
    undated = [trial._replace(measures={**trial.measures, "seconds": 0}) for trial in several.outcome.trials]
    assert [trial._replace(measures={**trial.measures, "seconds": 0}) for trial in resumed.outcome.trials] == undated
    assert {**resumed.metrics, "rewrite_seconds": 0} == {**several.metrics, "rewrite_seconds": 0}
    settings = {**settings, "strengths": [2.0]}
    with pytest.raises(UserError, match=r"are of another rewrite, with strengths \[0.5, 1.0\] in place of \[2.0\]"):
        run(network, root, tmp_path / "third", resume=str(tmp_path / "first"), **settings)


def test_other_images_of_the_second_moment_are_another_rewrite(network, root, tmp_path):
    here = tmp_path / "data"
    shutil.copytree(root, here)
    settings = {"strengths": [0.5, 1.0], "choose_on": "half", "max_drop": 1.0}
    whole = run(network, here, tmp_path / "whole", report=False, **settings)
    settings["resume"] = str(tmp_path / "whole")
    resumed = run(network, here, tmp_path / "resumed", report=False, **settings)
    assert resumed.outcome.trials == whole.outcome.trials  # their seconds, too: nothing is measured again
    (here / "train" / "dark" / "038.png").write_bytes((here / "train" / "dark" / "036.png").read_bytes())
    with pytest.raises(UserError, match=r"are of another rewrite, with moment\.images '\w+' in place of '\w+'"):
        run(network, here, tmp_path / "other", report=False, **settings)
    exemplar = here / "train" / "dark" / "000.png"
    pixels = np.asarray(Image.open(exemplar)).copy()
    pixels[SIZE // 2 :] //= 2  # what the new concept covers: the manipulated image is the same
    Image.fromarray(pixels).save(exemplar)
    with pytest.raises(UserError, match=r"are of another rewrite, with rule '\w+' in place of '\w+'"):
        run(network, here, tmp_path / "covered", report=False, **settings)


def test_further_exemplars_are_another_rewrite(network, root, tmp_path):
    """Harm is not counted on them."""
    settings = {"strengths": [0.5, 1.0], "choose_on": "half", "max_drop": 1.0}
    run(network, root, tmp_path / "whole", report=False, **settings)
    settings["resume"] = str(tmp_path / "whole")
    with pytest.raises(UserError, match=r"are of another rewrite, with exemplars '\w+' in place of '\w+'"):
        run(network, root, tmp_path / "other", report=False, trial_rules=trial_rules(root), **settings)


def test_baselines_are_compared(network, root, tmp_path):
    solvers = [
        FineTuning("local", 1e-2, max_steps=5),
        FineTuning("global", 1e-2, max_steps=5),
        SmoothDescent(max_steps=5),
        SmoothDescent("all", max_steps=5),
    ]
    trials = run(network, root, tmp_path, False, solvers=solvers, choose_on="half", max_drop=1.0).outcome.trials
    labels = [trial.solver for trial in trials]
    assert labels[0] == "FineTuning(learning_rate=0.01, max_steps=5)"
    assert labels[3] == "SmoothDescent(layers=all, max_steps=5)"
    assert all(trial.measures["relative_norm"] > 0 for trial in trials)


def test_features_of_each_exemplar_as_a_key(network, root, tmp_path):
    settings = {"layers": ["3"], "rule": rule(root, exemplars=2), "routes": ["features"], "keys": "exemplar"}
    metrics = run(network, root, tmp_path, False, **settings).metrics
    assert metrics["rewrite_rank"] == 2
    assert metrics["rewrite_residual"] < 1e-4


def test_a_linear_layer_has_no_heat_maps(network, root, tmp_path):
    assert run(network, root, tmp_path, False, layers=["8"]).outcome.heat_maps is None
    assert (tmp_path / "rewrite.safetensors").is_file()


def routes_csv(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "routes.csv").open()))


def test_routes_side_by_side_on_exemplars_that_neither_make_nor_choose(routes, network, root, tmp_path):
    """Both routes of the closed form, and fine-tuning, which has no keys, once; the counts by a plain loop."""
    trial, outcome = trial_rules(root), routes.outcome
    names = ["ClosedForm by images", "ClosedForm by features", "FineTuning(learning_rate=0.01, max_steps=3)"]
    assert list(outcome.rewrites) == names
    assert routes.metrics["rewrite_num_candidates"] == 3
    assert len(outcome.rewrites[names[0]].labels["trial"]) == 6
    originals, manipulated = (
        (torch.cat([getattr(some, name) for some in trial]) - 0.5) / 0.25 for name in ("originals", "manipulated")
    )
    labels = torch.tensor([CLASSES.index(name) for some in trial for name in some.class_names])
    params = {
        method: {name: param.cpu() for name, param in some.items()} for method, some in routes.rewrite.params.items()
    }
    with torch.no_grad():
        by_prediction, before = (network(images).argmax(1) for images in (originals, manipulated))
        changed = [functional_call(network, params[name], (manipulated,)).argmax(1) for name in names]
    rows = iter(routes_csv(routes.folder))
    for name, after in zip(names, changed, strict=True):
        for target in (True, False):
            for reference in (labels, by_prediction):
                chosen = (reference == 1) == target
                wrong = [int(((some != reference) & chosen).sum()) for some in (before, after)]
                row = next(rows)
                assert row["rewrite"] == name
                counts = [int(row[field]) for field in ("num_images", "errors_before", "errors_after")]
                assert counts == [int(chosen.sum()), *wrong]
        assert next(rows)["images"] == "overall"
    report = (routes.folder / "report.md").read_text()
    for words in ("### Side by side", "| Target class |", "| Other classes |", "](routes.png)", "class light"):
        assert words in report
    again = run(network, root, tmp_path, False, rule=rule(root, exemplars=[1, 3, 5]), trial_rules=trial, **ROUTES)
    RouteComparison(again.outcome.rewrites, again.outcome.target).counts().write_csv(tmp_path / "routes.csv")
    assert routes_csv(tmp_path) == routes_csv(routes.folder)


def test_a_zero_edit_corrects_nothing_by_any_route(network, root, tmp_path):
    trial = [rule(root, "validation")]
    assert run(network, root, tmp_path, trial_rules=trial, strengths=[0.0], **ROUTES).outcome.chosen is None
    assert {(row["errors_before"] == row["errors_after"]) for row in routes_csv(tmp_path)} == {True}
    assert {row["errors_corrected"] for row in routes_csv(tmp_path)} <= {"0.0", ""}
    report = (tmp_path / "report.md").read_text()
    assert "ClosedForm by features (not eligible)" in report
    assert "Not eligible: no candidate of this solver" in report


def test_no_candidate_within_the_limits(network, root, tmp_path):
    rewrite, metrics, _ = run(network, root, tmp_path, strengths=[-1.0, -2.0], choose_on="half")
    assert rewrite.outcome.chosen is None
    assert "none of 2 candidates corrects an error at a drop of at most 0.25 points" in rewrite.failure()
    assert "None of 2 candidates" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "rewritten.ckpt").exists()
    assert "rewrite_drop" not in metrics


def test_a_second_moment_is_kept_and_used_again(single, network, root, tmp_path, monkeypatch):
    cache = single.folder / "moments"
    (kept,) = cache.iterdir()
    assert kept.name.startswith("0-pixel-")
    monkeypatch.setattr("editable.callbacks.site.moment.collect_second_moment", None)  # not to be called
    again = run(network, root, tmp_path, False, moment=MomentSettings(cache=str(cache)))
    assert {**single.metrics, "rewrite_seconds": 0} == {**again.metrics, "rewrite_seconds": 0}


MISTAKES = {
    "layer": ({"layers": ["conv9"]}, "has no layer 'conv9'"),
    "no layer": ({"layers": []}, "rewrite.layers is empty"),
    "rank": ({"ranks": [0]}, r"rewrite\.ranks must be at least 1, got \[0\]"),
    "solver twice": ({"solvers": [ClosedForm(), ClosedForm()]}, "ClosedForm twice"),
    "layer twice": ({"layers": ["3", "0", "3"]}, "rewrite.layers has 3 twice"),
    "rank twice": ({"ranks": [2, 1, 2]}, "rewrite.ranks has 2 twice"),
    "strength twice": ({"strengths": [1.0, 1]}, "rewrite.strengths has 1.0 twice"),
    "route twice": ({"routes": ["images", "images"]}, "rewrite.routes has images twice"),
    "route": ({"routes": ["image"]}, "rewrite.routes is 'image', but must be one of images, features"),
    "keys": ({"keys": "exemplars"}, "rewrite.keys is 'exemplars', but must be one of rule, exemplar"),
    "architecture": ({"architecture": "pixels"}, "rewrite.architecture is 'pixels', but must be one of pixel, patch"),
    "choose on": ({"choose_on": "test"}, "rewrite.choose_on is 'test', but must be one of val, half"),
    "photographs": ({"photographs": "nowhere"}, "nowhere does not exist"),
    "resume": ({"resume": "nowhere", "strengths": [1.0, 2.0]}, "there are no candidates in 'nowhere'"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(network, root, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        run(network, root, tmp_path, **settings)
    assert not (tmp_path / "metrics.json").exists()


def test_a_rule_of_another_size(network, root, tmp_path):
    small = RewriteRule(str(root / "masks.json"), texture=str(root / "blue.png"), image_size=8)
    with pytest.raises(UserError, match=r"exemplars are \[3, 8, 8\] .* images \[3, 16, 16\]"):
        run(network, root, tmp_path, rule=small)


def test_a_rule_on_grey_images(root):
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=[0.5], std=[0.25])
    data.setup("test")
    with pytest.raises(UserError, match=r"exemplars are \[3, 16, 16\] .* images \[1, 16, 16\]: a rule is of .* colour"):
        check_rules([rule(root)], data)


def test_inference_mode(network, root, tmp_path):
    with pytest.raises(UserError, match="inference_mode=False"):
        run(network, root, tmp_path, inference_mode=True)


def test_exemplars_among_the_test_images_are_told_apart(network, root, tmp_path):
    """Harm is told on all test images that chose nothing, and on those that are no exemplars; these alone choose."""
    here = tmp_path / "data"
    shutil.copytree(root, here)
    exemplars = sorted((here / "test").rglob("*.png"))[:3]
    box = [0, SIZE // 2, SIZE, SIZE]
    masks = [{"image": str(path.relative_to(here)), "box": box} for path in exemplars]
    (here / "masks.json").write_text(json.dumps({"masks": masks}))
    _, metrics, folder = run(network, here, tmp_path / "single", report=False)
    checkpoint = torch.load(folder / "rewritten.ckpt", "cpu", weights_only=True)["state_dict"]
    params = {"0.weight": checkpoint["network.0.weight"]}
    assert metrics["rewrite_num_report_images"] == 60
    assert metrics["rewrite_num_report_without_exemplars_images"] == 57
    assert metrics["rewrite_report_error"] == pytest.approx(errors(network, here, "test", params))
    settings = {**SEVERAL, "layers": ["0"], "solvers": [ClosedForm()], "ranks": [1]}
    several = run(network, here, tmp_path / "several", report=False, **settings)
    (num_chosen,) = {trial.others.num_images for trial in several.outcome.trials}
    reported = next(iter(several.outcome.rewrites.values())).labels
    assert (30 - num_chosen) + (30 - len(reported["report_without_exemplars"])) == 3
    for path in exemplars:
        path.unlink()
    before, after = errors(network, here, "test"), errors(network, here, "test", params)
    assert metrics["rewrite_report_without_exemplars_error"] == pytest.approx(after)
    assert metrics["rewrite_drop_without_exemplars"] == pytest.approx(after - before)


def test_exemplars_among_the_validation_images_do_not_choose(network, root, tmp_path):
    here = tmp_path / "data"
    shutil.copytree(root, here)
    shutil.copytree(here / "test", here / "val")
    exemplars = sorted((here / "val").rglob("*.png"))[:3]
    box = [0, SIZE // 2, SIZE, SIZE]
    masks = [{"image": str(path.relative_to(here)), "box": box} for path in exemplars]
    (here / "masks.json").write_text(json.dumps({"masks": masks}))
    settings = {"strengths": [0.5, 1.0], "choose_on": "val", "max_drop": 1.0}
    some = run(network, here, tmp_path / "run", report=False, **settings)
    assert {trial.others.num_images for trial in some.outcome.trials} == {57}


def test_exemplars_are_told_apart_where_batches_are_limited(network, root, tmp_path):
    """One batch is tested for ``test_error``; all are reported, and the last three of them are exemplars."""
    here = tmp_path / "data"
    shutil.copytree(root, here)
    exemplars = sorted((here / "test").rglob("*.png"))[-3:]
    box = [0, SIZE // 2, SIZE, SIZE]
    masks = [{"image": str(path.relative_to(here)), "box": box} for path in exemplars]
    (here / "masks.json").write_text(json.dumps({"masks": masks}))
    _, metrics, _ = run(network, here, tmp_path / "run", report=False, limit_test_batches=1, batch_size=8)
    assert metrics["rewrite_num_report_images"] == 60
    assert metrics["rewrite_num_report_without_exemplars_images"] == 57
