"""A rewrite of a generator as a callback: what it logs, writes and tells."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import GeneratorRewriting, RunReport, generator_metrics
from editable.callbacks.rewrite_generator import GeneratorRewriteOutcome
from editable.callbacks.rewrite_generator.callback import rule_for
from editable.callbacks.rewrite_generator.report import write
from editable.callbacks.run.outcome_file import read_outcome
from editable.data import read_generator_rule
from editable.errors import UserError
from editable.models import Discriminator, Generator, NormalLatents
from editable.rewriting import ClosedForm
from editable.rewriting.generators.generator_rewrite import rewrite_generator
from editable.rewriting.keys.erase_problem import EraseRule
from editable.rewriting.keys.paste_problem import PasteRule
from editable.tasks import GenerationTask
from tests.quiet_trainer import quiet_trainer

PART = {"latent": 3, "box": [2, 2, 6, 6]}
RULE = {"seed": 1, "copy": PART, "paste": [{**PART, "latent": 2}], "context": [{**PART, "latent": 2}]}


@pytest.fixture
def rule(tmp_path: Path) -> str:
    (tmp_path / "rule.json").write_text(json.dumps(RULE))
    return str(tmp_path / "rule.json")


def task() -> GenerationTask:
    torch.manual_seed(0)
    return GenerationTask(Generator(latent_size=4, width=2), Discriminator(width=2), num_samples=20)


def images() -> DataLoader:
    pixels = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(pixels, torch.zeros(16)), batch_size=8)


def callback(rule: str, **settings) -> GeneratorRewriting:
    defaults = {"layer": "layer2.conv1", "solver": ClosedForm(), "num_moment_images": 40, "num_unseen_images": 4}
    return GeneratorRewriting(rule, **{**defaults, **settings})


class Run(NamedTuple):
    """A run of ``test`` that has rewritten a generator."""

    task: GenerationTask
    before: dict[str, torch.Tensor]
    rewriting: GeneratorRewriting
    logged: dict[str, torch.Tensor]
    folder: Path


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    (folder / "rule.json").write_text(json.dumps(RULE))
    generation, rewriting = task(), callback(str(folder / "rule.json"))
    before = {name: tensor.clone() for name, tensor in generation.network.state_dict().items()}
    trainer = quiet_trainer(default_root_dir=folder, callbacks=[RunReport(), rewriting])
    trainer.test(generation, images(), verbose=False)
    return Run(generation, before, rewriting, trainer.callback_metrics, folder)


def test_a_test_logs_and_leaves_what_the_rewrite_came_to(tested: Run, rule: str):
    network, before, folder = tested.task.network, tested.before, tested.folder
    direct = rewrite_generator(
        network,
        "layer2.conv1",
        rule_for(network, read_generator_rule(rule)),
        solver=ClosedForm(),
        num_moment_images=40,
        num_unseen_images=4,
    )
    for name, value in generator_metrics(direct).items():
        if name != "rewrite_seconds":
            assert float(tested.logged[name]) == pytest.approx(value, rel=1e-5), name
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() > generator_metrics(direct).keys()
    state = load_file(folder / "rewritten.safetensors")
    assert state.keys() == before.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
        expected = direct.result.params.get(name, before[name])
        torch.testing.assert_close(state[name], expected)
    assert tested.rewriting.outcome.values().keys() == {
        name.removeprefix("rewrite_") for name in generator_metrics(direct)
    }
    report = (folder / "report.md").read_text()
    assert "`layer2.conv1` was changed by" in report
    assert "4 unseen images" in report


def test_drawn_again_from_the_outcomes_file(tested: Run, tmp_path: Path):
    outcome = read_outcome(tested.folder / "rewrite_generator_outcome.pt", GeneratorRewriteOutcome)
    assert outcome.values() == tested.rewriting.outcome.values()
    report = (tested.folder / "report.md").read_text()
    assert all(section in report for section in write(outcome, tmp_path))
    figures = sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".png")
    assert figures == ["first.png", "rule.png", "strongest.png"]
    for name in figures:
        assert (tmp_path / name).read_bytes() == (tested.folder / name).read_bytes()


def test_a_fast_run_leaves_no_weights(rule: str, make_trainer, tmp_path: Path):
    make_trainer(callbacks=[RunReport(), callback(rule)], fast_dev_run=True).test(task(), images(), verbose=False)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_numbers_of_a_rule_name_latent_vectors(rule: str, tmp_path: Path):
    network = Generator(latent_size=4, width=2)
    made = rule_for(network, read_generator_rule(rule))
    assert isinstance(made, PasteRule)
    drawn = NormalLatents(4)(4, seed=1)
    assert torch.equal(made.copy.latents, drawn[3:])
    assert torch.equal(made.context.latents, drawn[2:3])
    assert made.copy.masks.sum() == 16
    (tmp_path / "erase.json").write_text(json.dumps({"seed": 5, "erase": [PART], "channels": 2}))
    erasing = rule_for(network, read_generator_rule(tmp_path / "erase.json"))
    assert isinstance(erasing, EraseRule)
    assert erasing.channels == 2
    assert torch.equal(erasing.context.latents, NormalLatents(4)(4, seed=5)[3:])


def test_mistakes_end_in_a_sentence(rule: str, make_trainer):
    with pytest.raises(UserError, match="rank must be at least 1, got 0"):
        callback(rule, rank=0)
    with pytest.raises(UserError, match=r"image_range must be .* got \(1, 1\)"):
        callback(rule, image_range=(1, 1))
    with pytest.raises(UserError, match="has no layer 'layer9'"):
        make_trainer(callbacks=[callback(rule, layer="layer9")]).test(task(), images(), verbose=False)
    with pytest.raises(UserError, match="inference_mode=False"):
        make_trainer(callbacks=[callback(rule)], inference_mode=True).test(task(), images(), verbose=False)
