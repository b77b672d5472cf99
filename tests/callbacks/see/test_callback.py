"""A rewrite is looked at: what comes out before and after it, what is left behind, and what is left alone."""

import copy
import re

import pytest
import torch
from safetensors.torch import save_file

from editable.callbacks.run.outcome_file import read_outcome
from editable.callbacks.run_report import write_metrics
from editable.callbacks.see.outcome import SeeingOutcome
from editable.errors import UserError
from editable.rewriting import ClosedForm, FineTuning
from tests.callbacks.same_outcome import assert_same
from tests.callbacks.see.looks import LONG, SIZE, look, make_network, rule, run, seeing
from tests.paths import DOCS
from tests.quiet_trainer import quiet_trainer


def test_the_layers_keys_are_the_originals_before_and_the_manipulated_ones_after(looked):
    metrics = looked.metrics
    assert metrics["see_keys_original_similarity_before"] > 0.999
    assert metrics["see_keys_manipulated_similarity"] > 0.999
    assert metrics["see_keys_original_similarity_before"] > metrics["see_keys_manipulated_similarity_before"]
    assert metrics["see_keys_manipulated_similarity"] > metrics["see_keys_original_similarity"]


def test_all_losses_fall_at_least_tenfold(looked):
    ratios = {name: value for name, value in looked.metrics.items() if "loss_ratio" in name}
    assert len(ratios) == 6
    assert min(ratios.values()) >= 10


def test_logged_figures_are_those_of_plain_formulas(looked, root):
    """Mean keys over the lower half, and what the rewritten weight recalls for them at each tap of the kernel."""
    callback, metrics = looked.callback, looked.metrics
    network, rules = make_network().double(), rule(root)
    with torch.no_grad():
        read = [network[:3]((some.double() - 0.5) / 0.25) for some in (rules.originals, rules.manipulated)]
    old, new = (features[:, :, SIZE // 2 :].mean((0, 2, 3)) for features in read)
    rewrite, weight = callback.outcome.rewrite, network[3].weight.detach()
    torch.testing.assert_close(rewrite.target_keys[:, 0], old, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rewrite.keys[:, 0], new, rtol=1e-4, atol=1e-5)
    rewritten = rewrite.weight.double()
    # W₁ k* = W₀ k
    recalled = [torch.einsum("fcmn,c->fmn", some, key) for some, key in ((rewritten, new), (weight, old))]
    torch.testing.assert_close(*recalled, rtol=1e-3, atol=1e-4)
    assert metrics["see_relative_norm"] == pytest.approx(float((rewritten - weight).norm() / weight.norm()), rel=1e-5)
    direction = rewrite.directions[:, 0]
    assert metrics["see_response_ratio"] == pytest.approx(float((direction @ old / (direction @ new)).abs()), rel=1e-4)
    assert metrics["see_loss"] < metrics["see_loss_before"]
    assert metrics["see_num_exemplars"] == 2


def test_every_metric_is_defined_in_the_documentation(looked):
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    section = page.partition("`see.…`")[2].partition("\n## ")[0]
    defined = " ".join(re.findall(r"`([^`]+)`", section))
    for name in looked.metrics:
        if name.startswith("see_"):
            stage = name.removeprefix("see_").partition("_")[0]
            assert name.replace(f"see_{stage}_", "see_<stage>_") in defined or name in defined, name


def test_a_fixed_seed_gives_the_same_arrays_and_figures(looked, root, tmp_path):
    """Figures are functions of the outcome, and are drawn of it again to the same bytes in test_report.py."""
    callback = seeing(root, num_exemplars=2, **LONG)
    logged = look(quiet_trainer, make_network(), root, callback)
    assert_same(callback.outcome, read_outcome(looked.folder / "see_outcome.pt", SeeingOutcome))
    write_metrics(tmp_path / "metrics.json", dict(sorted(logged.items())))
    assert (tmp_path / "metrics.json").read_bytes() == (looked.folder / "metrics.json").read_bytes()


def test_a_rewritten_network_is_read_from_a_file(make_trainer, root, tmp_path):
    made, network = seeing(root), make_network()
    look(make_trainer, network, root, made)
    edited = copy.deepcopy(network)
    with torch.no_grad():
        edited[3].weight.copy_(made.outcome.rewrite.weight)
    save_file(edited.state_dict(), tmp_path / "edited.safetensors")
    read = seeing(root, edited=str(tmp_path / "edited.safetensors"))
    look(make_trainer, network, root, read)
    assert torch.equal(read.outcome.rewrite.weight, made.outcome.rewrite.weight)
    assert torch.equal(read.outcome.stages["images"].after.found, made.outcome.stages["images"].after.found)


def test_a_linear_layer_has_no_maps(make_trainer, root, tmp_path):
    callback = seeing(root, layer="8", num_exemplars=1, values="own")
    metrics = run(make_trainer, make_network(), root, tmp_path, callback).metrics
    assert callback.outcome.maps is None
    report = (tmp_path / "report.md").read_text()
    assert set(re.findall(r"!\[[^\]]+\]\((\w+)\.png\)", report)) == {"curves", "exemplars", "inversions"}
    assert "in 2 dimensions of which the memory recalls the same" in report  # [4, 6]
    assert "Values of each network itself are traced back" in report
    assert metrics["see_num_exemplars"] == 1


@pytest.mark.parametrize(
    "options", [{"moment": {"split": "test"}}, {"moment": {"split": "val"}}, {"route": "features"}]
)
def test_other_ways_to_ask(make_trainer, root, options):
    callback = seeing(root, architecture="patch", keys="exemplar", num_exemplars=1, **options)
    metrics = look(make_trainer, make_network(), root, callback)
    assert callback.outcome.stages["keys"].before.found.shape == (2 * 3, 5 * 9)
    assert metrics["see_num_exemplars"] == 1


MISTAKES = {
    "layer": ({"layer": "11"}, "no layer '11'"),
    "not a layer": ({"layer": "1"}, "but '1' is a"),
    "file": ({"edited": "nowhere.safetensors"}, "there is no weights file at 'nowhere.safetensors'"),
    "stand-in": ({"perceptual_layers": ["9"]}, r"'9' puts out no map"),
    "others": ({"solver": FineTuning("global", max_steps=1)}, "FineTuning changes 2 other parameters"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_does_not_fit_the_network_is_refused(make_trainer, root, options, message):
    with pytest.raises(UserError, match=message):
        look(make_trainer, make_network(), root, seeing(root, **options))


def test_exemplars_of_another_size_are_refused(make_trainer, root):
    small = rule(root, image_size=SIZE - 4)
    with pytest.raises(UserError, match=r"exemplars are \[3, 8, 8\] .*the data module's images \[3, 12, 12\]"):
        look(make_trainer, make_network(), root, seeing(root, rule=small))


def test_inference_mode_is_refused(make_trainer, root):
    with pytest.raises(UserError, match="tracing values back needs gradients"):
        look(make_trainer, make_network(), root, seeing(root), inference_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edited": "a.ckpt", "solver": ClosedForm()}, r"see\.edited is a rewritten network, and see\.solver"),
        ({"route": "image"}, "see.route is 'image', but must be one of images, features"),
        ({"keys": "exemplars"}, "see.keys is 'exemplars', but must be one of rule, exemplar"),
        ({"num_exemplars": 0}, "num_exemplars must be at least 1, got 0"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"moment": {"num_images": 0}}, r"moment\.num_images must be at least 1, got 0"),
        ({"moment": {"seed": -1}}, r"moment\.seed must be at least 0, got -1"),
        ({"total_variation": -0.1}, r"total_variation must be at least 0, got -0\.1"),
    ],
)
def test_settings_out_of_range_are_refused(root, options, message):
    with pytest.raises(UserError, match=message):
        seeing(root, **options)
