"""Rules from a few photographs, on a small network whose mistake is known: bright ground means "plow"."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from scipy.stats import beta
from torch import nn

import editable.callbacks.few_shot.callback
from editable.callbacks import FewShotRules, MomentSettings, RunReport
from editable.data import ImageFolderDataModule, RewriteRule
from editable.editing import GD, CodebookEditor, Editor, EditPatch, LastLayerRetraining, MinimalHarmEditor
from editable.errors import UserError
from editable.rewriting import Regularisation
from editable.tasks import ClassificationTask
from tests.callbacks.few_shot.bright_ground import CLASSES, MEAN, SIZE, STD, halves_of, make_network, save_all
from tests.quiet_trainer import quiet_trainer

MOMENT = MomentSettings(split="test", regularisation=Regularisation(epsilon=0.01))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bright")
    save_all(root)
    return root


def run(root: Path, folder: Path, network: nn.Module | None = None, report: bool = False, **settings) -> FewShotRules:
    known = RewriteRule(str(root / "known.json"), texture=str(root / "test/plow/0.png"), image_size=SIZE)
    given = {"photographs": str(root / "photographs"), "known": known, "moment": MOMENT, "draws": 2}
    few_shot = FewShotRules(**given | settings)
    callbacks = [few_shot, RunReport()] if report else [few_shot]
    trainer = quiet_trainer(inference_mode=False, callbacks=callbacks, default_root_dir=folder)
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=MEAN, std=STD)
    trainer.test(ClassificationTask(network or make_network()), data, verbose=False)
    return few_shot


def test_a_rule_of_two_colours_holds_for_the_third(root: Path, tmp_path: Path):
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    few_shot = run(root, tmp_path, network, report=True, shots=[1, None], strengths=[0.25, 1.5], max_drop=1.0)
    assert few_shot.outcome is not None
    one, whole = few_shot.outcome.rows
    assert (one.way, one.shots, one.num_rules, whole.shots, whole.num_rules) == ("rewriting 2", 1, 6, None, 3)
    assert one.before == whole.before == 18  # all photographs are taken for plows
    assert whole.corrected == 1.0
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["few_shot_errors_corrected"] == 1.0
    assert metrics["few_shot_num_report_images"] == few_shot.outcome.trials[0].others.num_images
    assert "## Rules from a few labelled photographs" in (tmp_path / "report.md").read_text()


def test_known_images_are_not_among_the_reported_ones(root: Path, tmp_path: Path):
    few_shot = run(root, tmp_path, shots=[None], strengths=[1.0])
    assert few_shot.outcome is not None
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))[50:].tolist()
    names = sorted(f"{number}.png" for number in range(20))
    known = {CLASSES.index("grey") * 20 + names.index(f"{number}.png") for number in range(5)}
    known.add(CLASSES.index("red") * 20 + names.index("0.png"))
    assert few_shot.outcome.trials[0].others.num_images == len(set(order) - known)


def test_photographs_are_not_among_the_images_that_choose_or_are_reported(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    here = tmp_path / "data"
    shutil.copytree(root, here)
    for photograph in sorted((root / "photographs").glob("*/*.png")):
        shutil.copy(photograph, here / "test" / photograph.parent.name / f"photograph-{photograph.name}")
    every = [path for name in CLASSES for path in sorted((here / "test" / name).glob("*.png"))]
    order = torch.randperm(118, generator=torch.Generator().manual_seed(0)).tolist()
    theirs, lengths = editable.callbacks.few_shot.callback.Workbench, []

    def workbench(network, way, photographs, others, *rest):
        lengths.append({name: len(images) for name, images in others.items()})
        return theirs(network, way, photographs, others, *rest)

    monkeypatch.setattr(editable.callbacks.few_shot.callback, "Workbench", workbench)
    few_shot = run(here, tmp_path / "run", shots=[None], strengths=[1.0], max_drop=1.0)
    choosing, reported = ([every[place] for place in some] for some in (order[:59], order[59:]))
    known = {here / f"test/grey/{number}.png" for number in range(5)} | {here / "test/red/0.png"}
    chosen = [path for path in choosing if not path.name.startswith("photograph")]
    shown = [path for path in reported if not path.name.startswith("photograph") and path not in known]
    assert lengths == [{"choose": len(chosen), "report": len(shown)}]
    assert few_shot.outcome is not None
    assert few_shot.outcome.kept is not None
    assert few_shot.outcome.kept.others.before == 0  # all that is mistaken are the photographs


def test_no_image_is_left_to_report_on(root: Path, tmp_path: Path):
    here = tmp_path / "data"
    shutil.copytree(root, here)
    left = [here / "test" / name / "0.png" for name in CLASSES]
    for path in set((here / "test").glob("*/*.png")) - set(left):
        path.unlink()
    masks = [{"image": str(path.relative_to(here)), "box": [0, 0, SIZE, SIZE]} for path in left]
    (here / "known.json").write_text(json.dumps({"masks": masks}))
    with pytest.raises(UserError, match="no test image is left to report on: there are too few besides photographs"):
        run(here, tmp_path / "run", shots=[None], strengths=[1.0])


@pytest.mark.parametrize("keep", [True, False])
def test_one_rule_by_hand(keep: bool, root: Path, tmp_path: Path):
    """With all photographs, as the formula has it: by plain loops over files, from the halves that the layer reads."""
    few_shot = run(root, tmp_path, shots=[None], strengths=[1.0], keep_labels=keep)
    assert few_shot.outcome is not None
    trial = next(some for some in few_shot.outcome.trials if CLASSES[some.left_out] == "red")
    keys = {name: halves_of(sorted((root / "photographs" / name).glob("*.png"))) for name in ("blue", "green", "red")}
    known = halves_of([root / f"test/grey/{number}.png" for number in range(5)])  # the red one is of the class left out
    network = make_network()
    weight, bias = network[2].weight.detach().double(), network[2].bias.detach().double()
    chosen = torch.randperm(100, generator=torch.Generator().manual_seed(0))[:50].tolist()
    every = [path for name in CLASSES for path in sorted((root / "test" / name).glob("*.png"))]
    read = halves_of([every[place] for place in chosen])
    second = read.T @ read / len(read)
    second += 0.01 * second.trace() / 6 * torch.eye(6).double()
    key = (keys["blue"].mean(0) + keys["green"].mean(0)) / 2
    direction = torch.linalg.solve(second, key)
    change = weight @ (known.mean(0) - key)
    if keep:
        change[[CLASSES.index("blue"), CLASSES.index("green")]] = 0
    edited = weight + change[:, None] * direction / (direction @ key)
    wrong = {
        name: int(((some @ edited.T + bias).argmax(1) != CLASSES.index(name)).sum()) for name, some in keys.items()
    }
    assert trial.tested.after == wrong["red"]
    assert trial.makers.after == wrong["blue"] + wrong["green"]


def test_the_rule_of_all_photographs_is_kept(root: Path, tmp_path: Path):
    """By hand: one key of all three colours and of all known images, at the strength that corrects most."""
    network = make_network()
    few_shot = run(root, tmp_path, network, report=True, shots=[None], strengths=[0.25, 1.5], max_drop=1.0)
    assert few_shot.outcome is not None
    kept = few_shot.outcome.kept
    assert kept is not None
    keys = {name: halves_of(sorted((root / "photographs" / name).glob("*.png"))) for name in ("blue", "green", "red")}
    known = halves_of([*(root / f"test/grey/{number}.png" for number in range(5)), root / "test/red/0.png"])
    weight, bias = network[2].weight.detach().double(), network[2].bias.detach().double()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0)).tolist()
    every = [path for name in CLASSES for path in sorted((root / "test" / name).glob("*.png"))]
    read = halves_of([every[place] for place in order[:50]])
    second = read.T @ read / len(read)
    second += 0.01 * second.trace() / 6 * torch.eye(6).double()
    key = torch.stack([some.mean(0) for some in keys.values()]).mean(0)
    direction = torch.linalg.solve(second, key)
    change = weight @ (known.mean(0) - key)
    change[[CLASSES.index(name) for name in keys]] = 0  # their own rows are left as they are
    update = change[:, None] * direction / (direction @ key)

    def wrong(strength: float) -> int:
        scores = {name: some @ (weight + strength * update).T + bias for name, some in keys.items()}
        return sum(int((some.argmax(1) != CLASSES.index(name)).sum()) for name, some in scores.items())

    assert (kept.makers.before, kept.makers.after) == (18, wrong(kept.strength))
    patch = EditPatch.load(tmp_path / "few_shot.safetensors")
    with patch.applied(network):
        edited = network[2].weight.detach().double()
    # The network reads means of pixels in float32, whose rounding a solution of second moments takes up.
    torch.testing.assert_close(edited, weight + kept.strength * update, rtol=1e-4, atol=1e-4)
    saved = torch.load(tmp_path / "few_shot.ckpt", weights_only=True)["state_dict"]["network.2.weight"]
    assert torch.equal(saved.double(), edited)

    shown = [place for place in order[50:] if not any(torch.equal(halves_of([every[place]])[0], one) for one in known)]
    labels = torch.tensor([CLASSES.index(every[place].parent.name) for place in shown])
    inputs = halves_of([every[place] for place in shown])
    right = [(inputs @ some.T + bias).argmax(1) == labels for some in (weight, edited)]
    assert kept.broken == int((right[0] & ~right[1]).sum())
    harm = patch.edits[0].harm
    assert harm is not None
    assert (harm.number, harm.images, kept.others.num_images) == (kept.broken, len(shown), len(shown))
    assert harm.bound == pytest.approx(beta.ppf(0.95, kept.broken + 1, len(shown) - kept.broken))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["few_shot_kept_bound"] == pytest.approx(harm.bound)
    assert "**Kept** is the rule that rewriting 2 makes" in (tmp_path / "report.md").read_text()


def test_editors_and_layers_that_share_stand_beside(root: Path, tmp_path: Path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), *make_network())
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(3)[:, :, None, None])
    few_shot = run(
        root,
        tmp_path,
        network.eval(),
        layers=[["3"], ["0", "3"]],
        editors=[MinimalHarmEditor(), LastLayerRetraining()],
        shots=[2],
        draws=1,
        strengths=[1.0],
    )
    assert few_shot.outcome is not None
    rows = {row.way: row for row in few_shot.outcome.rows}
    assert list(rows) == ["rewriting 3", "rewriting 0 + 3", "MinimalHarmEditor of 3", "LastLayerRetraining of 3"]
    assert rows["MinimalHarmEditor of 3"].makers_corrected == 1.0
    assert rows["LastLayerRetraining of 3"].makers_corrected == 1.0


def test_editors_of_one_kind_are_told_apart(root: Path, tmp_path: Path):
    """Each has the rules that it has alone."""
    editors = {
        "Editor(rule=GD(learning_rate=1e-06), max_steps=1) of 2": Editor(GD(1e-6), max_steps=1),
        "Editor(rule=GD(learning_rate=1.0)) of 2": Editor(GD(1.0)),
    }
    settings = {"layers": [], "shots": [2], "draws": 1, "strengths": [1.0]}
    outcome = run(root, tmp_path / "both", editors=list(editors.values()), **settings).outcome
    assert outcome is not None
    assert [row.way for row in outcome.rows] == list(editors)
    assert [row.makers_corrected for row in outcome.rows] == [0.0, 1.0]
    for label, editor in editors.items():
        alone = run(root, tmp_path / label, editors=[editor], **settings).outcome
        assert alone is not None
        assert alone.trials == [trial for trial in outcome.trials if trial.way == label]


def test_an_editor_that_has_no_layer_is_refused_before_anything_is_computed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def computes(*_):
        raise AssertionError("something is computed")

    monkeypatch.setattr(FewShotRules, "on_test_epoch_end", computes)
    convolutions = nn.Sequential(nn.AdaptiveAvgPool2d((2, 1)), nn.Conv2d(3, 5, (2, 1)), nn.Flatten())
    with pytest.raises(UserError, match="an editor of labelled photographs goes with a linear layer, but the last"):
        run(root, tmp_path, convolutions, layers=[["1"]], editors=[MinimalHarmEditor()])


def test_where_nothing_is_gained_nothing_is_changed(root: Path, tmp_path: Path):
    few_shot = run(root, tmp_path, shots=[1], draws=1, strengths=[-0.5, -1.0])
    assert few_shot.outcome is not None
    assert {trial.strength for trial in few_shot.outcome.trials} == {0.0}
    assert all(trial.tested.before == trial.tested.after and not trial.broken for trial in few_shot.outcome.trials)
    assert few_shot.outcome.kept is None
    assert not few_shot.params
    assert not [*tmp_path.rglob("few_shot.safetensors"), *tmp_path.rglob("few_shot.ckpt")]


def test_a_rule_that_costs_more_than_is_allowed_is_not_kept(root: Path, tmp_path: Path):
    """A single strength is tested as it is, and kept within the drop alone."""
    costly, cheap = (
        run(root, tmp_path / str(drop), shots=[None], strengths=[40.0], max_drop=drop, keep_labels=False).outcome
        for drop in (0.0, 1.0)
    )
    assert costly is not None
    assert cheap is not None
    assert costly.trials == cheap.trials
    assert costly.trials[0].others.drop > 0
    assert costly.kept is None
    assert cheap.kept is not None
    assert cheap.kept.others.drop > 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"shots": []}, r"few_shot.shots is \[\], but must be different numbers"),
        ({"shots": [1, 1]}, r"few_shot.shots is \[1, 1\], but must be different numbers"),
        ({"shots": [0]}, "few_shot.shots"),
        ({"strengths": [1.0, 1.0]}, "few_shot.strengths"),
        ({"strengths": [float("nan")]}, "few_shot.strengths"),
        ({"draws": 0}, "draws"),
        ({"max_drop": 2.0}, "max_drop"),
        ({"seed": -1}, "seed"),
        ({"memory_budget": 0.0}, "memory_budget"),
        ({"layers": []}, "name at least one way to make a rule"),
        ({"layers": [["2", "2"]]}, r"the group \['2', '2'\]: name each layer once"),
        ({"layers": [["fc"]]}, "fc"),
        ({"layers": [["2"], ["2"]]}, "few_shot.layers has 2 twice: each can be tried once"),
        ({"layers": [["2", "5"], ["5", "2"]]}, r"few_shot.layers has 2 \+ 5 twice: each can be tried once"),
        (
            {"editors": [MinimalHarmEditor(epsilon=0.3), MinimalHarmEditor(epsilon=0.3)]},
            r"few_shot.editors has MinimalHarmEditor\(epsilon=0.3\) twice: each can be tried once",
        ),
        ({"editors": [CodebookEditor()]}, "few_shot.editors has CodebookEditor, which brings layers"),
        ({"photographs": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_mistakes(settings: dict, sentence: str, root: Path, tmp_path: Path):
    with pytest.raises(UserError, match=sentence):
        run(root, tmp_path / "run", **settings)


def test_too_few_classes_of_photographs(root: Path, tmp_path: Path):
    for name in ("red", "blue"):
        (tmp_path / "two" / name).mkdir(parents=True)
        (tmp_path / "two" / name / "0.png").symlink_to(root / "photographs" / name / "0.png")
    with pytest.raises(UserError, match="has photographs of 2 classes, but one is left out"):
        run(root, tmp_path / "run", photographs=str(tmp_path / "two"))
    few_shot = run(root, tmp_path / "run", photographs=str(tmp_path / "two"), strengths=[1.0], shots=[None])
    assert few_shot.outcome is not None
    assert len(few_shot.outcome.trials) == 2
