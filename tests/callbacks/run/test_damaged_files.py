"""Files that a run goes on from, damaged in every way that comes to mind: one sentence, or what was written."""

import json
import math
import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from editable.callbacks.drawdown_evaluation import unfinished as unfinished_edits
from editable.callbacks.few_shot.outcome import FewShotTrial
from editable.callbacks.few_shot.unfinished import UnfinishedRules, read_rules
from editable.callbacks.judge.unfinished import SeenImages, UnfinishedJudgement, read_judgement
from editable.callbacks.manipulate.unfinished_folder import MadeImage, UnfinishedFolder
from editable.callbacks.rewrite.resuming import read_trials, write_trials
from editable.callbacks.rewrite.trials import RewriteTrial, TrialSettings
from editable.callbacks.run.outcome_file import from_plain, read_outcome, write_outcome
from editable.callbacks.scan.records import ScanRecords, read_records, write_records
from editable.callbacks.search.unfinished import UnfinishedSearch
from editable.callbacks.site.set_errors import SetErrors
from editable.callbacks.stream.outcome import StreamPoint
from editable.callbacks.stream.unfinished import Progress, UnfinishedStream, read_progress
from editable.data import ManipulatedImage, load_manipulated_folder, save_manipulated_folder
from editable.editing import EditOutcomes, EditPatch, EditProgress, EditRecord, RateOutcome, StreamState
from editable.errors import UserError
from editable.models.tensor_file import DIGEST
from editable.rewriting import SecondMoment, cached_second_moment
from tests.warned import MOMENT_ANEW

NUMBER = 200
IDENTITY = {"weights": "abc", "num_images": 4, "edited": None}
OTHERS = [None, True, -1, 3.5, "x", "", [], {}, [1], {"a": 1}, float("nan"), float("inf"), 10**400]


class Kind(NamedTuple):
    """A file, how it is written into a folder, and how it is read from there."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]


class Outcome(NamedTuple):
    names: list[str]
    values: Tensor
    rate: float
    by_name: dict[str, int]


def write_search(folder: Path) -> None:
    outcomes = {rate: RateOutcome(rate, 0.5, 2.0, 0.01, 0.002, 100) for rate in (0.1, 1.0)}
    UnfinishedSearch.keep(folder, IDENTITY, outcomes)


def write_candidates(folder: Path) -> None:
    errors = SetErrors(10, 4, 2)
    trials = [RewriteTrial(TrialSettings("a", 0, 1), "ClosedForm", s, errors, errors, {"x": 1.0}) for s in (0.5, 1.0)]
    write_trials(folder, IDENTITY, trials)


def write_scan(folder: Path) -> None:
    predictions = torch.tensor([[[0, 1]], [[1, 1]], [[0, 0]]])
    probabilities = torch.full((3, 1, 2), 0.5)
    found = torch.tensor([True, True, False])
    write_records(
        folder,
        0,
        IDENTITY,
        ScanRecords(torch.tensor([0, 1, 3]), found, predictions, probabilities, probabilities.clone()),
    )


def write_judgement(folder: Path) -> None:
    kept = UnfinishedJudgement(folder, 0, IDENTITY, {})
    kept.keep("seen", SeenImages(torch.tensor([0, 1, 3]), torch.tensor([0.5, 0.0, 1.0]).double()))
    kept.write()


def write_manifest(folder: Path) -> None:
    images = [ManipulatedImage(torch.zeros(3, 2, 2), "cat", name, "a.png", "m", "t", 0, 0.5) for name in "ab"]
    save_manipulated_folder(folder, images, {"x": 1})


def write_made(folder: Path) -> None:
    UnfinishedFolder(folder / "out", IDENTITY).write(0, [MadeImage(0, 0.5), MadeImage(2, 0.0)])


def write_stream(folder: Path) -> None:
    point = StreamPoint(1, True, 1.0, 0.1, 0.0, 0.1, 0.9, float("nan"), [0.5] * 5, 0, float("nan"), 0.1, 24)
    state = StreamState({"fc.weight": torch.ones(2, 3)}, {"targets": torch.tensor([1])})
    done = Progress.start(state).with_correction(state, True, True, 0.1, float("nan"))._replace(points=[point])
    kept = UnfinishedStream(folder, IDENTITY)
    kept.keep(done)
    kept.write()


def write_evaluation(folder: Path) -> None:
    outcomes = EditOutcomes(*(torch.arange(3.0) + number for number in range(len(EditOutcomes._fields))))
    kept = unfinished_edits.UnfinishedEdits(folder, 0, IDENTITY)
    kept.keep(EditProgress(outcomes, {"next": torch.tensor([2])}))
    kept.write()


def write_rules(folder: Path) -> None:
    errors = SetErrors(10, 4, 2)
    UnfinishedRules(folder, IDENTITY, []).keep(FewShotTrial("a", None, 0, 1, 1.0, errors, errors, errors, 1))


def write_patch(folder: Path) -> None:
    record = EditRecord(["a"], None, "b", {"c": 1.0}, ["d", "e"])
    EditPatch.of(torch.nn.Linear(2, 2), {"bias": torch.ones(2)}, record).save(folder / "edit.safetensors")


def moment() -> SecondMoment:
    return SecondMoment.from_total(torch.eye(3).double(), 5)


def read_moment(folder: Path) -> SecondMoment:
    """A cache never ends in an error: what cannot be used is computed anew, with a warning."""
    return cached_second_moment(folder, {"a": "b"}, moment)


KINDS = [
    Kind("search.json", write_search, lambda folder: UnfinishedSearch(folder).finished(IDENTITY)),
    Kind("candidates.json", write_candidates, lambda folder: read_trials(folder, IDENTITY)),
    Kind("manifest.json", write_manifest, lambda folder: load_manipulated_folder(folder, ["cat"])),
    Kind("out.unfinished/made-0.json", write_made, lambda folder: UnfinishedFolder(folder / "out", IDENTITY).read()),
    Kind("scan.safetensors", write_scan, lambda folder: read_records(folder, IDENTITY)),
    Kind("judge.safetensors", write_judgement, lambda folder: read_judgement(folder, IDENTITY)),
    Kind("stream.safetensors", write_stream, lambda folder: read_progress(folder, IDENTITY, torch.device("cpu"))),
    Kind(
        "evaluation.safetensors",
        write_evaluation,
        lambda folder: unfinished_edits.read_progress(folder, 0, IDENTITY),
    ),
    Kind("few_shot.json", write_rules, lambda folder: read_rules(folder, IDENTITY)),
    Kind("edit.safetensors", write_patch, lambda folder: EditPatch.load(folder / "edit.safetensors")),
    Kind("second_moment.safetensors", read_moment, read_moment),
    Kind(
        "outcome.pt",
        lambda folder: write_outcome(folder / "outcome.pt", Outcome(["a"], torch.ones(2), 0.5, {"b": 1})),
        lambda folder: read_outcome(folder / "outcome.pt", Outcome),
    ),
]
JSON = [kind for kind in KINDS if kind.name.endswith(".json")]
TENSORS = [kind for kind in KINDS if kind.name.endswith(".safetensors")]


WITHOUT_DIGEST = ("manifest.json", "outcome.pt")
"""A manifest may be written by hand, and what a finished run has left is its own affair."""


def fails(kind: Kind, folder: Path) -> bool:
    """Read; return whether it ended in a user's mistake. Any other error is the test's."""
    try:
        kind.read(folder)
    except UserError:
        return True
    return False


def same(one: Any, other: Any) -> bool:
    """Return whether two things that were read hold the same."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return same(vars(one), vars(other)) if hasattr(one, "__dict__") else one == other


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Kind, Path]:
    request.param.write(tmp_path)
    return request.param, tmp_path / request.param.name


@pytest.mark.filterwarnings(MOMENT_ANEW)
def test_bytes_that_are_lost_or_changed(written: tuple[Kind, Path], tmp_path: Path):
    kind, path = written
    written_value = kind.read(tmp_path)
    whole, draw, recomputed = path.read_bytes(), random.Random(0), kind.read is read_moment
    for length in [0, 1, len(whole) // 2, *(draw.randrange(len(whole) - 1) for _ in range(20))]:
        path.write_bytes(whole[:length])
        if whole[:length].strip() != whole.strip():
            assert fails(kind, tmp_path) != recomputed, f"the first {length} of {len(whole)} bytes"
    for _ in range(NUMBER):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 1, 5])):
            changed[draw.randrange(len(whole))] = draw.randrange(256)
        path.write_bytes(bytes(changed))
        if not fails(kind, tmp_path):
            assert kind.name in WITHOUT_DIGEST or same(kind.read(tmp_path), written_value)
        else:
            assert not recomputed
    path.unlink()
    path.mkdir()
    assert fails(kind, tmp_path) != recomputed


def places(content: Any, here: tuple = ()) -> list[tuple]:
    """Return where values are in nested data, as the keys that lead to them."""
    keys: Any = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    return [place for key in keys for place in [(*here, key), *places(content[key], (*here, key))]]


def change(content: Any, place: tuple, draw: random.Random) -> tuple[Any, Any]:
    """Return nested data with one value another or none, and what is there now."""
    changed = deepcopy(content)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    if draw.random() < 0.3:
        del inside[place[-1]]
        return changed, "nothing"
    inside[place[-1]] = draw.choice(OTHERS)
    return changed, inside[place[-1]]


@pytest.mark.parametrize("kind", JSON, ids=lambda kind: kind.name)
def test_values_of_another_type_or_none(kind: Kind, tmp_path: Path):
    kind.write(tmp_path)
    path = tmp_path / kind.name
    content, draw = json.loads(path.read_text()), random.Random(1)
    refused = 0
    for _ in range(NUMBER):
        changed, _ = change(content, draw.choice(places(content)), draw)
        path.write_text(json.dumps(changed))
        refused += fails(kind, tmp_path)
    assert refused > NUMBER / 4
    for other in [*OTHERS, [content], [1] * 3]:
        path.write_text(json.dumps(other))
        assert fails(kind, tmp_path), other
    path.write_text("[" * 100_000)
    assert fails(kind, tmp_path)


@pytest.mark.parametrize("kind", TENSORS, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings(MOMENT_ANEW)
def test_tensors_of_another_type_shape_or_none(kind: Kind, tmp_path: Path):
    kind.write(tmp_path)
    written_value = kind.read(tmp_path)
    path, recomputed = tmp_path / kind.name, kind.read is read_moment
    with safe_open(path, "pt") as file:
        metadata, names = dict(file.metadata()), list(file.keys())
        tensors = {name: file.get_tensor(name).clone() for name in names}  # not what is written over below
    damaged: list[tuple[dict[str, Tensor], dict[str, str] | None]] = [(tensors, None), ({}, metadata)]
    for name in names:
        for value in (
            torch.zeros(0),
            torch.tensor(float("nan")),
            tensors[name].float() * float("nan"),
            tensors[name].bool() if tensors[name].dtype != torch.bool else tensors[name].float(),
            tensors[name][None].contiguous(),
        ):
            damaged.append(({**tensors, name: value}, metadata))
        damaged.append(({other: value for other, value in tensors.items() if other != name}, metadata))
    for field in metadata:
        texts = {"", "null", "[]", "1e999", "{"} - {metadata[field]}
        damaged += [(tensors, {**metadata, field: text}) for text in sorted(texts)]
        if field != DIGEST:
            damaged.append((tensors, {other: text for other, text in metadata.items() if other != field}))
    for some, described in damaged:
        save_file(some, path, described)
        assert fails(kind, tmp_path) != recomputed, (list(some), described)
    save_file(tensors, path, {field: text for field, text in metadata.items() if field != DIGEST})
    if kind.name in ("edit.safetensors", "second_moment.safetensors"):  # as before there were digests
        assert same(kind.read(tmp_path), written_value)
    else:
        assert fails(kind, tmp_path)


@pytest.mark.parametrize(
    ("plain", "hint", "message"),
    [
        (True, float, "'True' is no float"),
        (1.5, int, "'1.5' is no int"),
        ("1", float | None, "'1' is no float"),
        ([1], dict[str, int], "is no"),
        ({"a": "b"}, dict[str, int], "'b' is no int"),
        ([1, 2], tuple[int, int, int], "is no"),
        ({"num_images": 1, "before": 0}, SetErrors, "SetErrors has num_images, before, after, the file num_images"),
        ([1, 2, 3, 4], SetErrors, "the file 4 values"),
        ([1, 2, "x"], SetErrors, "after of SetErrors: 'x' is no int"),
    ],
)
def test_plain_data_of_another_type(plain: Any, hint: Any, message: str):
    with pytest.raises(ValueError, match=message):
        from_plain(plain, hint)


def test_plain_data_as_json_has_it():
    trial = RewriteTrial(TrialSettings("a", 0, 1), "b", 1.0, SetErrors(3, 2, 1), None, {"c": 1.5})
    assert from_plain(json.loads(json.dumps(trial._asdict())), RewriteTrial) == trial
