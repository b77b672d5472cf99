"""A rewrite of a generator as a callback: what it logs, writes and tells."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import GeneratorRewriting, RunReport, generator_metrics, write_generator_report
from editable.callbacks.rewrite_generator.callback import rule_for
from editable.data import read_generator_rule
from editable.errors import UserError
from editable.models import Discriminator, Generator, NormalLatents
from editable.rewriting import ClosedForm
from editable.rewriting.generators.generator_rewrite import rewrite_generator
from editable.rewriting.keys.erase_problem import EraseRule
from editable.rewriting.keys.paste_problem import PasteRule
from editable.tasks import GenerationTask
from tests.rewriting.generator_rules import planted, planted_rule

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
    defaults = {"layer": "layer2.conv1", "solver": ClosedForm(), "num_moment_images": 40, "num_unseen_images": 30}
    return GeneratorRewriting(rule, **{**defaults, **settings})


def test_a_test_logs_and_leaves_what_the_rewrite_came_to(rule: str, make_trainer, tmp_path: Path):
    tested, rewriting = task(), callback(rule)
    before = {name: tensor.clone() for name, tensor in tested.network.state_dict().items()}
    trainer = make_trainer(callbacks=[RunReport(), rewriting])
    trainer.test(tested, images(), verbose=False)
    direct = rewrite_generator(
        tested.network,
        "layer2.conv1",
        rule_for(tested.network, read_generator_rule(rule)),
        solver=ClosedForm(),
        num_moment_images=40,
        num_unseen_images=30,
    )
    for name, value in generator_metrics(direct).items():
        if name != "rewrite_seconds":
            assert float(trainer.callback_metrics[name]) == pytest.approx(value, rel=1e-5), name
    folder = tmp_path / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() > generator_metrics(direct).keys()
    state = load_file(folder / "rewritten.safetensors")
    assert state.keys() == before.keys()
    for name, tensor in tested.network.state_dict().items():
        assert torch.equal(tensor, before[name])
        expected = direct.result.params.get(name, before[name])
        torch.testing.assert_close(state[name], expected)
    report = (folder / "report.md").read_text()
    assert "`layer2.conv1` was changed by" in report
    assert "30 unseen images" in report


def test_pixels_are_told_as_fractions_of_their_range():
    rewrite = rewrite_generator(
        planted(), "conv", planted_rule(), solver=ClosedForm(), num_moment_images=200, num_unseen_images=60
    )
    narrow, wide = generator_metrics(rewrite, (0, 1)), generator_metrics(rewrite, (-1, 3))
    for name in ("pixel_change_matched", "pixel_change_elsewhere", "pixel_change_unmatched_images"):
        assert narrow[f"rewrite_{name}"] == pytest.approx(getattr(rewrite.outcome, name))
        assert wide[f"rewrite_{name}"] == pytest.approx(getattr(rewrite.outcome, name) / 4)
    assert narrow["rewrite_feature_progress"] == wide["rewrite_feature_progress"] == rewrite.outcome.feature_progress


def test_the_report_is_the_same_for_the_same_seeds(tmp_path: Path):
    for folder in ("first", "second"):
        rewrite = rewrite_generator(
            planted(), "conv", planted_rule(), solver=ClosedForm(), num_moment_images=200, num_unseen_images=60
        )
        sections = write_generator_report(rewrite, planted_rule(), tmp_path / folder)
        assert len(sections) == 2
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == ["first.png", "rewritten.safetensors", "rule.png", "strongest.png"]
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


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
