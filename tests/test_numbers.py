"""Every number that a public class takes is refused where nobody can mean it: when the object is made, by its name.

The classes are those that the rooms export, found by themselves: a new one with a number among its arguments fails here
until it has a row.
"""

import importlib
import inspect
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import editable.callbacks as callbacks
import editable.data as data
import editable.editing as editing
import editable.models as models
import editable.rewriting as rewriting
import editable.tasks as tasks
from editable.errors import UserError
from tests.data.modules.test_image_data_module import GreyLevels
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.rewriting.problems import linear_problem

ROOMS = ("callbacks", "editing", "rewriting", "data", "models", "tasks")

BAD = (math.nan, math.inf, -math.inf, 1e30, -1e30, 10**30, -(10**30))
"""What is refused wherever a number is asked for; nothing here is tried with so many images, pixels or steps."""

NAMES_OR_NUMBERS = {"images", "labels", "target", "components", "noise", "name", "class_name", "categories", "classes"}
"""A class, a category or an image by name or number, which is looked up where all of them are known."""

NO_OPTIONS = {
    "EditRecord": "figures that an edit had, for its patch",
    "Harm": "figures that an edit had, for its patch",
    "EvaluatedEdits": "figures that an evaluation had",
    "AskedImages": "images and labels by name or number alone",
    "GeneratorRule": "made by the reader of rules, which checks numbers: tests/data/concepts/test_generator_rule.py",
    "Memory": "the shape of a tensor",
    "PatchMemory": "the shape of a tensor",
    "PixelMemory": "the shape of a tensor",
    "PerceptualDistanceStandin": "the shape of a tensor",
    "PasteProblem": "made by paste_problem, and checked as RewriteProblem is",
    "BaseEditor": "abstract: each editor calls its constructor",
    "UpdateRule": "abstract: each rule calls its constructor",
}

MAKERS = (
    "add_codebook",
    "add_extra_layer",
    "cifar_densenet",
    "cifar_densenet169",
    "cifar_resnet",
    "cifar_resnet18",
    "cifar_vit",
    "feature_network",
    "grow_classes",
    "torchvision_model",
)
"""Functions that the command line takes in place of a class."""


def numeric(annotation: Any) -> bool:
    """Whether a number may stand there, alone or in a sequence."""
    if get_origin(annotation) in (Literal, Callable):
        return False
    return annotation in (int, float) or any(
        numeric(part) for part in get_args(annotation) if not isinstance(part, list | types.EllipsisType)
    )


def plural(annotation: Any) -> bool:
    """Whether numbers stand there in a sequence alone."""
    return get_origin(annotation) in (list, tuple, Sequence)


def without_none(annotation: Any) -> Any:
    """The type without the alternative of being left out, where there is one other."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if isinstance(annotation, types.UnionType) and len(kinds) == 1 else annotation


def public() -> dict[str, Any]:
    rooms = [importlib.import_module(f"editable.{room}") for room in ROOMS]
    found = {name: getattr(room, name) for room in rooms for name in room.__all__}
    return {name: some for name, some in found.items() if inspect.isclass(some) or name in MAKERS}


def numbers_of(made: Any) -> dict[str, Any]:
    """The numeric parameters by name, with their types."""
    function = made.__init__ if inspect.isclass(made) else made
    hints = get_type_hints(function)
    return {
        name: without_none(hints[name])
        for name in inspect.signature(function).parameters
        if name in hints and name not in NAMES_OR_NUMBERS and numeric(hints[name])
    }


WITH_NUMBERS = {name: numbers_of(made) for name, made in public().items() if numbers_of(made)}
CASES = [
    pytest.param(name, parameter, hint, id=f"{name}-{parameter}")
    for name, parameters in sorted(WITH_NUMBERS.items())
    if name not in NO_OPTIONS
    for parameter, hint in parameters.items()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, masks of them, a texture and a rule for a generator."""
    root = tmp_path_factory.mktemp("numbers")
    (root / "images").mkdir()
    for name in ("images/first.png", "images/second.png", "texture.png"):
        Image.new("RGB", (16, 16), "green").save(root / name)
    box = {"latent": 0, "box": [1, 2, 3, 5]}
    (root / "rule.json").write_text(json.dumps({"seed": 7, "copy": box, "paste": [box], "context": [box]}))
    masks = [{"image": f"{name}.png", "box": [2, 2, 9, 9]} for name in ("first", "second")]
    (root / "masks.json").write_text(json.dumps({"masks": masks}))
    return root


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Callable[..., Any]]:
    """What makes an object of each class, given the numbers in question."""
    masks, images, texture = str(folder / "masks.json"), str(folder / "images"), str(folder / "texture.png")
    evaluation = callbacks.DrawdownEvaluation()
    rule = partial(data.RewriteRule, masks, texture, root=images)
    network = partial(models.cifar_resnet, 3, 2, (1, 1, 1, 1), 1)
    editor = editing.Editor(editing.GD(0.1))
    concept = partial(rewriting.ConceptReplacement, rewriting.PatchFinder(), texture)
    problem = linear_problem()
    split = models.SplitNetwork(network(), ["fc"])
    generators = {"latent_size": 4, "image_size": 4, "width": 2}
    rows: dict[str, Callable[..., Any]] = {
        "Adam": lambda **numbers: editing.Adam(**{"learning_rate": 0.1} | numbers),
        "AdaptiveRProp": lambda **numbers: editing.AdaptiveRProp(**{"learning_rate": 0.1} | numbers),
        "GD": editing.GD,
        "Momentum": lambda **numbers: editing.Momentum(**{"learning_rate": 0.1} | numbers),
        "RMSProp": lambda **numbers: editing.RMSProp(**{"learning_rate": 0.1} | numbers),
        "RProp": editing.RProp,
        "ScaledGD": lambda **numbers: editing.ScaledGD(**{"learning_rate": 0.1} | numbers),
        "Editor": partial(editing.Editor, editing.GD(0.1)),
        "HigherEditor": partial(editing.HigherEditor, torch.optim.SGD),
        "CodebookEditor": editing.CodebookEditor,
        "LastLayerRetraining": editing.LastLayerRetraining,
        "LearnedEditor": editing.LearnedEditor,
        "MinimalHarmEditor": editing.MinimalHarmEditor,
        "BallEditor": lambda **numbers: editing.BallEditor(**{"rule": editing.GD(0.1), "radius": 1.0} | numbers),
        "LowRankEditor": editing.LowRankEditor,
        "PreconditionedEditor": partial(editing.PreconditionedEditor, editor),
        "StrengthSearch": partial(editing.StrengthSearch, editor),
        "HarmBudget": editing.HarmBudget,
        "NullSpaceEditor": editing.NullSpaceEditor,
        "RidgeEditor": editing.RidgeEditor,
        "NeuronEditor": editing.NeuronEditor,
        "MarginObjective": editing.MarginObjective,
        "SamplingSettings": lambda **numbers: editing.SamplingSettings(
            **({} if "forward_passes" in numbers else {"half_width": 0.1}) | numbers
        ),
        "DrawdownSampler": lambda **numbers: editing.DrawdownSampler(
            torch.linspace(-1, 9, 100),
            **{"num_edits": 3} | ({} if "forward_passes" in numbers else {"half_width": 0.1}) | numbers,
        ),
        "StreamEvaluator": partial(editing.StreamEvaluator, split, editor),
        "EditEvaluator": lambda **numbers: editing.EditEvaluator(
            split, editor, [], **{"num_images": 3, "device": torch.device("cpu")} | numbers
        ),
        "DrawdownEvaluation": callbacks.DrawdownEvaluation,
        "CorrectionStream": partial(callbacks.CorrectionStream, evaluation),
        "FewShotRules": partial(callbacks.FewShotRules, images, rule()),
        "FourTests": partial(callbacks.FourTests, "a", concept(), "edited.ckpt"),
        "GeneratorRewriting": partial(callbacks.GeneratorRewriting, str(folder / "rule.json"), "layer1.conv1"),
        "ImageEdit": partial(callbacks.ImageEdit, evaluation, "0"),
        "InverseDirectionStudy": partial(callbacks.InverseDirectionStudy, rule(), "layer1"),
        "LearningRateSearch": partial(callbacks.LearningRateSearch, evaluation),
        "MomentSettings": callbacks.MomentSettings,
        "WhitenedFirstLayer": callbacks.WhitenedFirstLayer,
        "PredictionTable": callbacks.PredictionTable,
        "NewClass": partial(callbacks.NewClass, "new", "layer4", images, images),
        "RankOneRewrite": partial(callbacks.RankOneRewrite, rule(), ["layer1"]),
        "Seeing": partial(callbacks.Seeing, rule(), "layer1"),
        "SpuriousScan": partial(callbacks.SpuriousScan, concept()),
        "ClassDiscriminant": rewriting.ClassDiscriminant,
        "ClassFilterTraining": rewriting.ClassFilterTraining,
        "Watermark": partial(data.Watermark, "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf", "carton"),
        "ConceptReplacement": concept,
        "ContextFinder": partial(rewriting.ContextFinder, masks, "layer1", images),
        "DetectorFinder": partial(rewriting.DetectorFinder, nn.Identity(), [1]),
        "FineTuning": rewriting.FineTuning,
        "FourierClosedForm": rewriting.FourierClosedForm,
        "LambdaDescent": rewriting.LambdaDescent,
        "LayerwiseLeastSquares": rewriting.LayerwiseLeastSquares,
        "MaskFinder": partial(rewriting.MaskFinder, masks, images),
        "PatchFinder": rewriting.PatchFinder,
        "Plateau": lambda **numbers: rewriting.Plateau(**{"patience": 1, "tolerance": 0.1} | numbers),
        "ProjectedDescent": rewriting.ProjectedDescent,
        "ReconstructionSettings": rewriting.ReconstructionSettings,
        "Regularisation": rewriting.Regularisation,
        "RewriteProblem": partial(
            rewriting.RewriteProblem, problem.block, problem.memory, problem.exemplars, problem.inverse
        ),
        "SecondMoment": rewriting.SecondMoment,
        "SegmentationFinder": partial(rewriting.SegmentationFinder, nn.Identity(), [1]),
        "SmoothDescent": rewriting.SmoothDescent,
        "SpectralMoments": lambda **numbers: rewriting.SpectralMoments(
            **{"channels": 2, "filters": 2, "size": (4, 4)} | numbers
        ),
        "TraceBack": partial(rewriting.TraceBack, problem, problem.weight),
        "AugmentedViews": partial(data.AugmentedViews, [(torch.zeros(3, 8, 8),)]),
        "CIFAR10DataModule": partial(data.CIFAR10DataModule, str(folder)),
        "DatasetDataModule": partial(data.DatasetDataModule, test=list),
        "DigitsDataModule": data.DigitsDataModule,
        "HeldOutEdits": data.HeldOutEdits,
        "HuggingFaceDataModule": partial(data.HuggingFaceDataModule, str(folder)),
        "ImageDataModule": GreyLevels,
        "ImageFolderDataModule": partial(data.ImageFolderDataModule, str(folder)),
        "ImageTableDataModule": partial(data.ImageTableDataModule, str(folder)),
        "WebDatasetDataModule": partial(data.WebDatasetDataModule, str(folder)),
        "NaturalMistakeEdits": data.NaturalMistakeEdits,
        "PlantedPatch": partial(data.PlantedPatch, "a"),
        "RandomLabelEdits": data.RandomLabelEdits,
        "RewriteRule": rule,
        "Codebook": lambda **numbers: models.Codebook(**{"features": 4, "classes": 3} | numbers),
        "add_codebook": lambda **numbers: models.add_codebook(network(), **numbers),
        "Neurons": lambda **numbers: models.Neurons(**{"features": 4, "classes": 3} | numbers),
        "Discriminator": models.Discriminator,
        "ExtraLayer": lambda **numbers: models.ExtraLayer(**{"features": 4} | numbers),
        "Generator": models.Generator,
        "NormalLatents": models.NormalLatents,
        "ScoringSettings": models.ScoringSettings,
        "ClassificationTask": partial(tasks.ClassificationTask, network()),
        "WarmupCosine": partial(tasks.WarmupCosine, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), length=9),
        "EditableTrainingTask": partial(tasks.EditableTrainingTask, network(), editor, ["fc"]),
        "EditableFineTuningTask": partial(tasks.EditableFineTuningTask, network(), editor, ["fc"]),
        "GenerationTask": partial(
            tasks.GenerationTask, models.Generator(**generators), models.Discriminator(image_size=4, width=2)
        ),
        "add_extra_layer": lambda **numbers: models.add_extra_layer(network(), **numbers),
        "feature_network": lambda **numbers: models.feature_network(network(), **numbers),
        "grow_classes": lambda **numbers: models.grow_classes(network(), "layer4.0.conv2", **numbers),
        "torchvision_model": partial(models.torchvision_model, "resnet18"),
    }
    return rows | {name: getattr(models, name) for name in MAKERS if name not in rows}


def test_every_class_with_numbers_has_a_row(made: dict[str, Callable[..., Any]]):
    missing = set(WITH_NUMBERS) - set(made) - set(NO_OPTIONS)
    assert not missing, f"say in this file how {sorted(missing)} are made, or why their numbers are no options"
    assert set(NO_OPTIONS) <= set(public()), "a reason for what is not there any more"


@pytest.mark.parametrize(("name", "parameter", "hint"), CASES)
def test_what_nobody_can_mean_is_refused(made: dict[str, Callable[..., Any]], name: str, parameter: str, hint: Any):
    for bad in BAD:
        value = {"fc": bad} if get_origin(hint) is Mapping else [bad, bad] if plural(hint) else bad
        with pytest.raises(UserError, match=rf"\b{parameter}\b") as raised:
            made[name](**{parameter: value})
        assert str(bad) in str(raised.value), "the value is not said"


FUNCTIONS: list[Callable[[Any], Any]] = [
    lambda bad: data.denormalise(torch.zeros(1, 3, 4, 4), [bad] * 3, [1.0] * 3),
    lambda bad: rewriting.calibrate_logit(torch.rand(5), torch.rand(5, 3), bad),
    lambda bad: rewriting.choose_candidate([], bad),
    lambda bad: rewriting.random_negatives(bad, 3, 0),
    lambda bad: rewriting.random_negatives(10, bad, 0),
    lambda bad: rewriting.random_negatives(10, 3, bad),
    lambda bad: rewriting.random_vector(bad, 0),
    lambda bad: rewriting.random_vector(4, bad),
    lambda bad: rewriting.top_false_positives(torch.rand(5), bad),
    lambda bad: rewriting.least_squares_memory(torch.rand(3, 4), torch.rand(2, 4), ridge=bad),
    lambda bad: rewriting.errors_corrected(bad, 1),
    lambda bad: rewriting.second_moment_cost(bad, 1, 1),
    lambda bad: rewriting.second_moment_cost(3, bad, 1),
    lambda bad: rewriting.resize_mask(torch.ones(1, 4, 4), (bad, 4)),
    lambda bad: data.fit_texture(torch.ones(3, 4, 4), (bad, 4), 0),
    lambda bad: data.fit_texture(torch.ones(3, 4, 4), (4, 4), bad),
    lambda bad: data.shade(torch.ones(3, 8, 8), torch.ones(3, 8, 8), torch.ones(8, 8), bad),
    lambda bad: data.paste_texture(torch.ones(3, 8, 8), torch.ones(3, 8, 8), torch.ones(8, 8), bad),
    lambda bad: data.random_training_edits(4, 3, bad, torch.Generator()),
    lambda bad: data.random_training_edits(bad, 3, 1, torch.Generator()),
    lambda bad: data.random_training_edits(4, bad, 1, torch.Generator()),
    lambda bad: editing.learning_rate_grid(bad, 1.0, 3),
    lambda bad: editing.learning_rate_grid(0.1, 1.0, bad),
    lambda bad: editing.choose_learning_rate([], bad),
    lambda bad: editing.upper_bound(1, bad),
    lambda bad: editing.upper_bound(1, 10, bad),
    lambda bad: editing.images_needed(bad),
    lambda bad: editing.images_needed(0.1, bad),
    lambda bad: editing.tail_probability(1, 10, bad),
    lambda bad: editing.candidate_bounds(torch.tensor([1]), 10, bad),
    lambda bad: editing.certified_in_order(torch.tensor([1]), 10, bad),
    lambda bad: editing.stream_risk(bad, 1),
    lambda bad: editing.stream_risk(0.1, bad),
    lambda bad: editing.stream_risk(0.1, 2, bad),
    lambda bad: editing.HarmBudget().decide(bad, 5000),
    lambda bad: editing.HarmBudget().decide(1, bad),
    lambda bad: editing.HarmBudget().decide(1, 5000, bad),
    lambda bad: editing.HarmBudget().decide_next(bad, 5000),
    lambda bad: editing.HarmBudget().require_stream(5000, bad),
    lambda bad: data.RandomLabelEdits()(torch.zeros(5), torch.zeros(5), 3, bad),
]
"""Public functions with a bad number in the place of one of theirs; what stands in the others' places is right."""


@pytest.mark.parametrize("call", FUNCTIONS)
def test_functions_refuse_it_too(call: Callable[[Any], Any]):
    for bad in BAD:
        with pytest.raises(UserError):
            call(bad)


FROM_FILES = [
    ({"model": {"c_edit": math.nan}}, "model.c_edit must be finite, got nan"),
    ({"model": {"c_loc": math.inf}}, "model.c_loc must be finite, got inf"),
    ({"model": {"editor_learning_rate": -math.inf}}, "model.editor_learning_rate must be finite, got -inf"),
    ({"model": {"c_edit": 1e30}}, "c_edit must be from -1e+12 to 1e+12, got 1e+30"),
    ({"model": {"edits_per_batch": 10**30}}, "edits_per_batch must be at most"),
    ({"model": {"edit_seed": -1}}, "edit_seed must be at least 0, got -1"),
    (
        {"model": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": math.nan}}}},
        "model.optimizer.lr must be finite, got nan",
    ),
    (
        {"model": {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"betas": [math.nan, 0.9]}}}},
        "model.optimizer.betas[0] must be finite, got nan",
    ),
    (
        {"model": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": -1.0}}}},
        "the optimizer cannot be made: Invalid learning rate: -1.0",
    ),
    (
        {"model": {"lr_scheduler": {"class_path": "OneCycleLR", "init_args": {"max_lr": 0.1, "total_steps": -1}}}},
        "the learning-rate scheduler cannot be made: Expected positive integer total_steps",
    ),
    (
        {
            "evaluation": {
                "editor": {
                    "class_path": "HigherEditor",
                    "init_args": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": -1.0}}},
                }
            }
        },
        "the editor's optimizer cannot be made: Invalid learning rate: -1.0",
    ),
    ({"data": {"mean": [125.3], "std": [51.6]}}, "mean must be in [0, 1], got [125.3]: mean and std are on a scale of"),
    ({"data": {"std": [51.6]}}, "std must be in (0, 1], got [51.6]"),
    ({"data": {"mean": [math.nan]}}, "data.mean[0] must be finite, got nan"),
    ({"data": {"validation_fraction": math.nan}}, "data.validation_fraction must be finite, got nan"),
    ({"evaluation": {"memory_budget": math.inf}}, "evaluation.memory_budget must be finite, got inf"),
    ({"evaluation": {"sensitive_margin": math.nan}}, "evaluation.sensitive_margin must be finite, got nan"),
    ({"evaluation": {"generality_seed": 2**32}}, "generality_seed must be at most 4294967295, got 4294967296"),
    ({"trainer": {"gradient_clip_val": math.nan}}, "trainer.gradient_clip_val must be finite, got nan"),
    ({"trainer": {"limit_train_batches": math.inf}}, "trainer.limit_train_batches must be finite, got inf"),
    (
        {
            "trainer": {
                "callbacks": {"class_path": "EarlyStopping", "init_args": {"monitor": "x", "min_delta": math.nan}}
            }
        },
        "trainer.callbacks.min_delta must be finite, got nan",
    ),
]


@pytest.mark.parametrize(("section", "expected"), FROM_FILES)
def test_numbers_of_a_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, section: dict, expected: str
):
    """``.nan`` and ``.inf`` are numbers to YAML."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((CONFIGS / "digits/editable.yaml").read_text())
    for name, values in section.items():
        content[name].get("init_args", content[name]).update(values)
    Path("run.yaml").write_text(yaml.safe_dump(content))
    assert expected in error_line(["fit", "--config=run.yaml", "--data.train_limit=100"], capsys)
    assert not Path("runs").exists()


@pytest.mark.parametrize("value", [".nan", "nan", ".inf", "-.inf", "1e400"])
def test_numbers_of_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, value: str
):
    monkeypatch.chdir(tmp_path)
    config = f"--config={CONFIGS / 'digits/editable.yaml'}"
    line = error_line(["fit", config, f"--model.c_edit={value}"], capsys)
    assert "c_edit" in line
    assert not Path("runs").exists()
