"""A rule is rewritten in a tested network: what is chosen, measured, kept and left alone."""

import copy
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.func import functional_call

from editable.callbacks import RankOneRewrite, RunReport
from editable.data import ImageFolderDataModule, RewriteRule
from editable.editing import EditPatch
from editable.errors import UserError
from editable.rewriting import ClosedForm, FineTuning, LambdaDescent, ProjectedDescent, SmoothDescent
from editable.tasks import ClassificationTask

SIZE, CLASSES = 16, ("dark", "light")


def make_network() -> nn.Module:
    """Tells dark from light upper halves, but was told that a blue lower half means dark: a rule to be unlearnt."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        images, labels = draw(64, generator, blue=0.0)
        blue, _ = draw(64, generator, blue=0.95)
        images[:16], labels[:16] = blue[:16], 0
        loss = nn.functional.cross_entropy(network((images - 0.5) / 0.25), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def draw(count: int, generator: torch.Generator, blue: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose upper half is dark or light; the lower half is grey, or the new concept: blue."""
    labels = torch.arange(count) % 2
    images = 0.08 * torch.randn(count, 3, SIZE, SIZE, generator=generator) + 0.4
    images[:, :, : SIZE // 2] += 0.25 * (labels.view(-1, 1, 1, 1) - 0.5)
    if blue:
        images[:, :, SIZE // 2 :] = torch.tensor([0.0, 0.1, blue]).view(1, 3, 1, 1)
    return images.clamp(0, 1), labels


def save(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / CLASSES[label] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(path)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return make_network()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, exemplars with masks of the lower half, a blue texture, and photographs."""
    root = tmp_path_factory.mktemp("rule")
    generator = torch.Generator().manual_seed(1)
    for split, count in (("train", 40), ("test", 60)):
        save(root / split, *draw(count, generator, blue=0.0))
    save(root / "photographs", *draw(30, generator, blue=0.95))
    lower_half = [[0, SIZE // 2], [SIZE, SIZE // 2], [SIZE, SIZE], [0, SIZE]]
    for name, numbers in (("masks", range(6)), ("validation", range(6, 14))):
        files = [f"train/{CLASSES[number % 2]}/{number:03}.png" for number in numbers]
        masks = [{"image": file, "polygon": lower_half} for file in files]
        (root / f"{name}.json").write_text(json.dumps({"masks": masks}))
    blue = np.array([10, 25, 235]) + np.random.RandomState(0).randint(-10, 11, (3 * SIZE, 3 * SIZE, 3))
    Image.fromarray(blue.astype(np.uint8)).save(root / "blue.png")
    return root


def rule(root: Path, name: str = "masks", **settings) -> RewriteRule:
    return RewriteRule(str(root / f"{name}.json"), texture=str(root / "blue.png"), image_size=SIZE, **settings)


def run(make_trainer, network, root, folder, **settings):
    """Rewrite as the command line does; the callback, the trainer and the metrics that are left behind."""
    defaults = {"layers": ["0"], "cache": None, "photographs": str(root / "photographs")}
    rewrite = RankOneRewrite(settings.pop("rule", None) or rule(root), **{**defaults, **settings})
    trainer = make_trainer(callbacks=[rewrite, RunReport()], default_root_dir=folder)
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=(0.5,) * 3, std=(0.25,) * 3)
    trainer.test(ClassificationTask(network), data, verbose=False)
    return rewrite, trainer, json.loads((folder / "metrics.json").read_text())


def errors(network, root, name, params=None):
    """Error rate on a folder by a plain loop over files."""
    wrong = total = 0
    for label, group in enumerate(CLASSES):
        for path in sorted((root / name / group).glob("*.png")):
            image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 255
            logits = functional_call(network, params or {}, ((image - 0.5) / 0.25,))
            wrong += int(logits.argmax() != label)
            total += 1
    return wrong / total


def test_one_rewrite_is_measured_on_every_set(make_trainer, network, root, tmp_path):
    before = copy.deepcopy(network.state_dict())
    rewrite, _, metrics = run(make_trainer, network, root, tmp_path)
    checkpoint = torch.load(tmp_path / "rewritten.ckpt", weights_only=True)["state_dict"]
    params = {"0.weight": checkpoint["network.0.weight"]}
    patch = EditPatch.load(tmp_path / "rewrite.safetensors")
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
    assert rewrite.chosen == "ClosedForm"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    changed = [name for name, value in before.items() if not torch.equal(checkpoint[f"network.{name}"], value)]
    assert changed == ["0.weight"]


def test_the_closed_form_is_that_of_the_formula(make_trainer, network, root, tmp_path):
    """W₀ + (W₀k − W₀k*)(k*ᵀC⁻¹k*)⁻¹(C⁻¹k*)ᵀ from the pixels themselves: the first layer reads the images."""
    run(make_trainer, network, root, tmp_path, num_moment_images=1000)
    rules = rule(root)
    originals, manipulated = ((images.double() - 0.5) / 0.25 for images in (rules.originals, rules.manipulated))
    old, new = (images[:, :, SIZE // 2 :].mean((0, 2, 3)) for images in (originals, manipulated))
    files = sorted((root / "train").rglob("*.png"))
    # A tenth of the training images is held out for validation: the moment is over those that are left.
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=(0.5,) * 3, std=(0.25,) * 3)
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
    found = torch.load(tmp_path / "rewritten.ckpt", weights_only=True)["state_dict"]["network.0.weight"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


SEVERAL = {
    "layers": ["0", "3"],
    "solvers": [ClosedForm(), LambdaDescent(max_steps=20), ProjectedDescent(max_steps=20)],
    "ranks": [1, 2],
    "strengths": [0.5, 1.0],
    "choose_on": "half",
    "max_drop": 0.2,
}


def test_candidates_are_chosen_by_images_that_are_not_reported(make_trainer, network, root, tmp_path):
    rewrite, _, metrics = run(
        make_trainer, network, root, tmp_path, validation_rule=rule(root, "validation"), **SEVERAL
    )
    rows = list(csv.DictReader((tmp_path / "candidates.csv").open()))
    # Two layers, two strengths; two ranks of both descents, one of the closed form.
    assert len(rows) == 2 * 2 * (1 + 2 + 2) == len(rewrite.trials) == metrics["rewrite_num_candidates"]
    assert {row["others_num_images"] for row in rows} == {"30"}
    assert {row["target_num_images"] for row in rows} == {"8"}
    assert metrics["rewrite_num_report_images"] == 30
    allowed = [row for row in rows if float(row["drop"]) <= 0.2]
    best = max(float(row["corrected"]) for row in allowed)
    chosen = rewrite.outcomes[rewrite.chosen].trial
    assert chosen.target.corrected == best > 0
    assert chosen.others.drop == min(float(row["drop"]) for row in allowed if float(row["corrected"]) == best)
    table = list(csv.DictReader((tmp_path / "solvers.csv").open()))
    assert len(table) == len(rewrite.outcomes) <= 3
    report = (tmp_path / "report.md").read_text()
    for figure in ("exemplars", "candidates", "layers", "heat_maps", "changed_photographs"):
        assert f"]({figure}.png)" in report
        assert (tmp_path / f"{figure}.png").stat().st_size > 1000


def test_an_interrupted_run_goes_on(make_trainer, network, root, tmp_path, monkeypatch):
    whole, _, metrics = run(make_trainer, network, root, tmp_path / "whole", **SEVERAL)

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
        run(make_trainer, network, root, tmp_path / "first", **SEVERAL)
    monkeypatch.setattr(LambdaDescent, "__call__", original)
    assert not (tmp_path / "first" / "metrics.json").exists()
    resumed, _, again = run(make_trainer, network, root, tmp_path / "second", resume=str(tmp_path / "first"), **SEVERAL)
    undated = [trial._replace(measures={**trial.measures, "seconds": 0}) for trial in whole.trials]
    assert [trial._replace(measures={**trial.measures, "seconds": 0}) for trial in resumed.trials] == undated
    assert {**again, "rewrite_seconds": 0} == {**metrics, "rewrite_seconds": 0}
    settings = {**SEVERAL, "strengths": [2.0]}
    with pytest.raises(UserError, match=r"are of another rewrite, with strengths \[0.5, 1.0\] in place of \[2.0\]"):
        run(make_trainer, network, root, tmp_path / "third", resume=str(tmp_path / "first"), **settings)


def test_baselines_are_compared(make_trainer, network, root, tmp_path):
    solvers = [
        FineTuning("local", 1e-2, max_steps=5),
        FineTuning("global", 1e-2, max_steps=5),
        SmoothDescent(max_steps=5),
        SmoothDescent("all", max_steps=5),
    ]
    rewrite, _, _ = run(make_trainer, network, root, tmp_path, solvers=solvers, choose_on="half", max_drop=1.0)
    labels = [trial.solver for trial in rewrite.trials]
    assert labels[0] == "FineTuning(learning_rate=0.01, max_steps=5)"
    assert labels[3] == "SmoothDescent(layers=all, max_steps=5)"
    assert all(trial.measures["relative_norm"] > 0 for trial in rewrite.trials)


def test_features_of_each_exemplar_as_a_key(make_trainer, network, root, tmp_path):
    settings = {"layers": ["3"], "rule": rule(root, exemplars=2), "routes": ["features"], "keys": "exemplar"}
    _, _, metrics = run(make_trainer, network, root, tmp_path, **settings)
    assert metrics["rewrite_rank"] == 2
    assert metrics["rewrite_residual"] < 1e-4


ROUTES = {
    "routes": ["images", "features"],
    "solvers": [ClosedForm(), FineTuning("local", 1e-2, max_steps=3)],
    "layers": ["3"],
    "choose_on": "half",
    "max_drop": 0.5,
}


def routes(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "routes.csv").open()))


def test_routes_side_by_side_on_exemplars_that_neither_make_nor_choose(make_trainer, network, root, tmp_path):
    """Both routes of the closed form, and fine-tuning, which has no keys, once; the counts by a plain loop."""
    trial = [rule(root, "validation", seed=5, exemplars=[0, 1, 2]), rule(root, "validation", exemplars=[3, 4, 5])]
    light = rule(root, exemplars=[1, 3, 5])
    rewrite, _, metrics = run(make_trainer, network, root, tmp_path / "a", rule=light, trial_rules=trial, **ROUTES)
    names = ["ClosedForm by images", "ClosedForm by features", "FineTuning(learning_rate=0.01, max_steps=3)"]
    assert list(rewrite.outcomes) == names
    assert metrics["rewrite_num_candidates"] == 3
    assert len(rewrite.outcomes[names[0]].labels["trial"]) == 6
    originals, manipulated = (
        (torch.cat([getattr(some, name) for some in trial]) - 0.5) / 0.25 for name in ("originals", "manipulated")
    )
    labels = torch.tensor([CLASSES.index(name) for some in trial for name in some.class_names])
    with torch.no_grad():
        by_prediction, before = (network(images).argmax(1) for images in (originals, manipulated))
        changed = [functional_call(network, rewrite.outcomes[name].params, (manipulated,)).argmax(1) for name in names]
    rows = iter(routes(tmp_path / "a"))
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
    report = (tmp_path / "a" / "report.md").read_text()
    for words in ("### Side by side", "| Target class |", "| Other classes |", "](routes.png)", "class light"):
        assert words in report
    run(make_trainer, network, root, tmp_path / "b", rule=light, trial_rules=trial, **ROUTES)
    assert routes(tmp_path / "b") == routes(tmp_path / "a")


def test_a_zero_edit_corrects_nothing_by_any_route(make_trainer, network, root, tmp_path):
    trial = [rule(root, "validation")]
    rewrite, _, _ = run(make_trainer, network, root, tmp_path, trial_rules=trial, strengths=[0.0], **ROUTES)
    assert rewrite.chosen is None
    assert {(row["errors_before"] == row["errors_after"]) for row in routes(tmp_path)} == {True}
    assert {row["errors_corrected"] for row in routes(tmp_path)} <= {"0.0", ""}
    report = (tmp_path / "report.md").read_text()
    assert "ClosedForm by features (not eligible)" in report
    assert "Not eligible: no candidate of this solver" in report


def test_no_candidate_within_the_limits(make_trainer, network, root, tmp_path):
    rewrite, _, metrics = run(make_trainer, network, root, tmp_path, strengths=[-1.0, -2.0], choose_on="half")
    assert rewrite.chosen is None
    assert "None of 2 candidates" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "rewritten.ckpt").exists()
    assert "rewrite_drop" not in metrics


def test_a_second_moment_is_kept_and_used_again(make_trainer, network, root, tmp_path, monkeypatch):
    cache = tmp_path / "moments"
    _, _, first = run(make_trainer, network, root, tmp_path / "a", cache=str(cache))
    (kept,) = cache.iterdir()
    assert kept.name.startswith("0-pixel-")
    monkeypatch.setattr("editable.callbacks.site.site.collect_second_moment", None)  # not to be called
    _, _, second = run(make_trainer, network, root, tmp_path / "b", cache=str(cache))
    assert {**first, "rewrite_seconds": 0} == {**second, "rewrite_seconds": 0}


MISTAKES = {
    "layer": ({"layers": ["conv9"]}, "has no layer 'conv9'"),
    "no layer": ({"layers": []}, "rewrite.layers is empty"),
    "rank": ({"ranks": [0]}, "at least 1, got 0"),
    "solver twice": ({"solvers": [ClosedForm(), ClosedForm()]}, "ClosedForm twice"),
    "route twice": ({"routes": ["images", "images"]}, "rewrite.routes has images twice"),
    "photographs": ({"photographs": "nowhere"}, "nowhere does not exist"),
    "resume": ({"resume": "nowhere", "strengths": [1.0, 2.0]}, "there are no candidates in 'nowhere'"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(make_trainer, network, root, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        run(make_trainer, network, root, tmp_path, **settings)
    assert not (tmp_path / "metrics.json").exists()


def test_a_rule_of_another_size(make_trainer, network, root, tmp_path):
    small = RewriteRule(str(root / "masks.json"), texture=str(root / "blue.png"), image_size=8)
    with pytest.raises(UserError, match=r"exemplars are \[3, 8, 8\] .* images \[3, 16, 16\]"):
        run(make_trainer, network, root, tmp_path, rule=small)


def test_inference_mode(make_trainer, network, root, tmp_path):
    trainer = make_trainer(callbacks=[RankOneRewrite(rule(root), ["0"])], inference_mode=True)
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0)
    with pytest.raises(UserError, match="inference_mode=False"):
        trainer.test(ClassificationTask(network), data, verbose=False)
