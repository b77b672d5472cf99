"""Edits in tensors that stay where they are: the same edits, and a recorded step is the step itself bit for bit."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from editable.editing import GD, Adam, BallEditor, EditEvaluator, Editor, Momentum, RMSProp, RProp, StrengthSearch
from editable.editing.graphs.static_edits import StaticEdits, StaticLoop, many_edits
from editable.errors import UserError
from editable.models import ScoringSettings, SplitNetwork, cifar_resnet
from editable.models.machine.graphs import Graphs
from tests.editing.graphs.recorded import RecordedGraphs
from tests.fake_cuda.device import fake_cuda
from tests.warned import no_warning

EDITORS = {
    "gd": Editor(GD(0.05), 6),
    "momentum": Editor(Momentum(0.02), 6),
    "rmsprop": Editor(RMSProp(0.005), 6),
    "rprop": Editor(RProp(0.003), 6, margin=0.5),
    "adam": Editor(Adam(0.005), 6),
    "in a ball": BallEditor(RMSProp(0.005), radius=0.3, max_steps=6),
    "learnt": Editor(RMSProp(0.005, learn_learning_rate=True, learn_decay=True), 6),
    "no steps": Editor(GD(0.05), 0),
}


@pytest.fixture
def split():
    torch.manual_seed(0)
    return SplitNetwork(cifar_resnet(5, 4, (1, 1, 1, 1), 1).double().eval(), ["layer3"])


def group(split, number, samples=1, seed=1):
    """Features and labels of some edits that take different numbers of steps."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(number * samples, 1, 16, 16, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        features = split.prefix(images)
        order = split.suffix(features, {}).argsort(dim=1, descending=True)
    labels = torch.stack([order[samples * edit, edit % 4] for edit in range(number)])
    inputs = tuple(feature.unflatten(0, (number, samples)) for feature in features)
    return inputs, labels.unsqueeze(1).expand(number, samples)


def assert_same(found, expected, exactly=False):
    rounding = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-7, "atol": 1e-9}
    assert found.success.tolist() == expected.success.tolist()
    assert found.num_steps.tolist() == expected.num_steps.tolist()
    torch.testing.assert_close(found.loss, expected.loss, **rounding)
    torch.testing.assert_close(dict(found.params), dict(expected.params), **rounding)


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize(("number", "samples"), [(4, 1), (1, 1), (3, 2)])
def test_the_edits_are_those_of_the_editor(name, number, samples, split):
    editor, graphs = EDITORS[name].double(), RecordedGraphs()
    edit_many = many_edits(editor, graphs)
    suffix, params = split.edit_suffix, split.params
    kept = {key: value.detach().clone() for key, value in params.items()}
    results = []
    for seed in range(4):  # from the second on, a step is replayed
        inputs, labels = group(split, number, samples, seed)
        found = edit_many(suffix, params, inputs, labels)
        expected = editor.edit_many(suffix, params, inputs, labels)
        assert_same(found, expected, exactly=seed == 0)
        results.append((found, expected))
        assert all(not value.requires_grad and value.is_leaf for value in found.params.values())
    assert graphs.number == 1
    assert all(torch.equal(value, params[key]) for key, value in kept.items())
    for found, expected in results:  # no later group has written into the results of an earlier one
        assert_same(found, expected)
    steps = torch.cat([found.num_steps for found, _ in results])
    assert len(set(steps.tolist())) > (1 if editor.max_steps and number > 1 else 0)


@pytest.mark.parametrize("name", EDITORS)
def test_a_replayed_step_is_the_step_bit_for_bit(name, split):
    editor, graphs = EDITORS[name].double(), RecordedGraphs()
    inputs, labels = group(split, 4)
    plain, replayed = (StaticLoop(editor, split.edit_suffix, split.params, inputs, labels) for _ in range(2))
    replayed.run_step = graphs.capture(replayed.step, "edits")
    for seed in range(3):
        inputs, labels = group(split, 4, seed=seed)
        expected = plain(split.params, inputs, labels, (0, 4))
        assert_same(replayed(split.params, inputs, labels, (0, 4)), expected, exactly=True)


def test_each_shape_has_a_graph_of_its_own(split):
    editor, graphs = EDITORS["rmsprop"].double(), RecordedGraphs()
    edit_many = StaticEdits(editor, graphs)
    for number, graphs_by_then in [(4, 0), (4, 1), (3, 1), (4, 1), (3, 2), (3, 2)]:
        inputs, labels = group(split, number, seed=number)
        assert_same(
            edit_many(split.edit_suffix, split.params, inputs, labels),
            editor.edit_many(split.edit_suffix, split.params, inputs, labels),
        )
        assert graphs.number == graphs_by_then


def test_weights_of_the_network_are_read_where_they_lie(split):
    """A replay sees what has been written into the network's parameters and buffers meanwhile."""
    editor = EDITORS["rmsprop"].double()
    edit_many = StaticEdits(editor, RecordedGraphs())
    inputs, labels = group(split, 4)
    before = [edit_many(split.edit_suffix, split.params, inputs, labels) for _ in range(2)][1]
    with torch.no_grad():
        split.network.fc.weight.mul_(1.5)
        split.network.layer3[0].bn1.running_mean.add_(0.1)
    after = edit_many(split.edit_suffix, split.params, inputs, labels)
    assert_same(after, editor.edit_many(split.edit_suffix, split.params, inputs, labels))
    assert not torch.equal(after.params["layer3.0.conv1.weight"], before.params["layer3.0.conv1.weight"])


def test_where_no_graph_can_be_made_edits_are_as_ever_and_it_is_said_once(split):
    def waiting(inputs, params):
        logits = split.edit_suffix(inputs, params)
        return logits * 1 if bool(inputs[0].sum() > -1e9) else logits

    editor, graphs = EDITORS["rmsprop"].double(), RecordedGraphs()
    edit_many = many_edits(editor, graphs)
    inputs, labels = group(split, 1)
    edit_many(waiting, split.params, inputs, labels)  # the first of a shape
    with pytest.warns(UserWarning, match=r"edits are computed without CUDA graphs.*\(operation not permitted"):
        result = edit_many(waiting, split.params, inputs, labels)
    assert_same(result, editor.edit_many(waiting, split.params, inputs, labels), exactly=True)
    assert not graphs.on
    with no_warning():
        for _ in range(3):
            edit_many(waiting, split.params, inputs, labels)
        assert many_edits(editor, graphs) == editor.edit_many  # from here on without trying


def test_who_makes_edits_otherwise_goes_on_so():
    for editor in (StrengthSearch(EDITORS["gd"]), Editor(GD(0.1), autocast=True)):
        assert many_edits(editor, RecordedGraphs()) == editor.edit_many
    assert many_edits(EDITORS["gd"], Graphs(torch.device("cpu"))) == EDITORS["gd"].edit_many
    assert not Graphs(torch.device("cuda"), wanted=False).on


def test_labels_are_looked_at(split):
    edit_many = StaticEdits(EDITORS["gd"].double(), RecordedGraphs())
    inputs, labels = group(split, 2)
    for _ in range(2):
        edit_many(split.edit_suffix, split.params, inputs, labels)
    for wrong, words in ((labels + 5, "classes are 0 … 4"), (labels - 9, "classes are 0"), (labels * 0.5, "integers")):
        with pytest.raises(UserError, match=words):
            edit_many(split.edit_suffix, split.params, inputs, wrong)


@pytest.mark.parametrize("scoring", [ScoringSettings(batch_size=12), ScoringSettings(batch_size=12, edits_together=2)])
@pytest.mark.parametrize("at_once", [1, 3])
def test_an_evaluation_by_graphs_has_the_figures_of_one_without(scoring, at_once, monkeypatch):
    torch.manual_seed(0)
    network = cifar_resnet(5, 4, (1, 1, 1, 1), 1).eval()
    images, labels = torch.randn(40, 1, 16, 16), torch.randint(5, (40,))
    dataset, made = TensorDataset(images, labels), []

    def outcomes():
        evaluator = EditEvaluator(
            SplitNetwork(network, ["layer3"]),
            Editor(RMSProp(0.02)),
            DataLoader(dataset, 20),
            40,
            torch.device("cpu"),
            scoring=scoring,
            edits_at_once=at_once,
        )
        evaluator.measure_base()
        found = evaluator.score(dataset, torch.arange(7), (labels[:7] + 1) % 5)
        return [field.tolist() for field in found]

    expected = outcomes()
    monkeypatch.setattr(ScoringSettings, "graphs_on", lambda self, device: made.append(RecordedGraphs()) or made[-1])
    assert outcomes() == expected
    assert made[0].number == 2  # the steps of edits, and full batches of one edited network


@pytest.mark.skipif(fake_cuda() is None, reason="needs --fake-cuda")
def test_an_evaluation_on_a_device_takes_graphs(monkeypatch):
    """Through torch.cuda's own names, of which the fake device has stand-ins; and without where these refuse."""
    torch.manual_seed(0)
    card, captured = torch.device("cuda"), []
    network = cifar_resnet(5, 4, (1, 1, 1, 1), 1).eval().to(card)
    images, labels = torch.randn(40, 1, 16, 16), torch.randint(5, (40,))
    dataset, plain = TensorDataset(images, labels), torch.cuda.graph

    def outcomes(graphs):
        settings = ScoringSettings(batch_size=12, graphs=graphs)
        loader, editor = DataLoader(dataset, 20), Editor(RMSProp(0.02))
        split = SplitNetwork(network, ["layer3"])
        evaluator = EditEvaluator(split, editor, loader, 40, card, scoring=settings, edits_at_once=3)
        evaluator.measure_base()
        found = evaluator.score(dataset, torch.arange(9), (labels[:9] + 1) % 5)
        return [field.tolist() for field in found]

    def counted(*arguments, **settings):
        captured.append(arguments)
        return plain(*arguments, **settings)

    def refused(*arguments, **settings):
        raise RuntimeError("CUDA error: operation not supported")

    expected = outcomes("never")
    monkeypatch.setattr(torch.cuda, "graph", counted)
    assert outcomes("auto") == expected
    assert len(captured) == 2
    monkeypatch.setattr(torch.cuda, "graph", refused)
    with pytest.warns(UserWarning, match=r"without CUDA graphs.*\(CUDA error: operation not supported\)") as said:
        found = outcomes("auto")
    assert found == expected
    assert len([some for some in said if "CUDA graphs" in str(some.message)]) == 1
