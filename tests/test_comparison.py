import csv
import json
import math
from dataclasses import replace

import pytest
from PIL import Image

from editable.cli import main
from editable.comparison import EvaluatedRun, compare, compare_runs
from editable.errors import UserError


@pytest.fixture
def run(tmp_path):
    """Make the log folder of a run with given drawdowns of its edits."""

    def make(name, drawdowns, prefix="", **metrics):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        mean = sum(drawdowns) / max(len(drawdowns), 1)
        edits = {"drawdown": mean, "success_rate": 0.75, "num_steps": 2.5}
        found = {"test_error": 0.125} | {f"{prefix}{some}": value for some, value in edits.items()} | metrics
        (folder / "metrics.json").write_text(json.dumps(found))
        with (folder / "edits.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["index", "drawdown"], *enumerate(drawdowns)])
        return folder

    return make


def test_interval_is_that_of_the_mean_over_edits(run):
    found = EvaluatedRun.read(run("a", [0.1, 0.2, 0.0, 0.1]))
    # deviations 0, 0.1, −0.1, 0: variance 0.02 / 3
    assert found.half_width == pytest.approx(1.959964 * math.sqrt(0.02 / 3 / 4))
    assert (found.test_error, found.success_rate, found.num_steps, found.num_edits) == (0.125, 0.75, 2.5, 4)
    assert found.drawdown == pytest.approx(0.1)


def test_table_and_figure(run, tmp_path, capsys):
    folders = [run("a", [0.08, 0.07], generality=0.8), run("b", [0.01, 0.03, 0.02], test_error=0.12)]
    path = tmp_path / "figures" / "both.png"
    main(["compare", f"before={folders[0]}", f"after={folders[1]}", f"--output={path}"])
    with Image.open(path) as picture:
        assert len(set(picture.convert("L").tobytes())) > 1
    header, rule, *rows = path.with_suffix(".md").read_text().splitlines()
    assert header.count("|") == rule.count("|") == 8
    assert rows == [
        "| before | 12.50 | 7.50 ± 0.98 | 75.0 | 2.50 | 80.0 | 2 |",
        "| after | 12.00 | 2.00 ± 1.13 | 75.0 | 2.50 |  | 3 |",
    ]
    assert {file.name for file in path.parent.iterdir()} == {"both.png", "both.md"}
    assert "before" in capsys.readouterr().out


def test_generality_is_drawn_where_all_runs_have_it(run, tmp_path):
    some, none = run("some", [0.1, 0.3], generality=0.5), run("none", [0.1, 0.2])
    widths = []
    for name, folders in {"both": {"a": some, "b": some}, "one": {"a": some, "b": none}}.items():
        compare_runs(folders, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            widths.append(picture.width)
    assert widths[0] == 1.5 * widths[1]


KINDS = {"": "random labels", "table_": "a table's edits", "mistake_": "mistakes"}


@pytest.mark.parametrize("prefix", KINDS)
def test_a_kind_of_edits_has_names_of_its_own(run, prefix):
    found = EvaluatedRun.read(run("a", [0.1, 0.3], prefix))
    assert found == replace(EvaluatedRun.read(run("b", [0.1, 0.3])), kind=KINDS[prefix])


def test_kinds_of_edits_are_not_mixed(run, tmp_path):
    prefixes = {"x": "", "y": "", "z": "mistake_", "w": "table_"}
    folders = {name: run(name, [0.1, 0.2], prefix) for name, prefix in prefixes.items()}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="'x' was judged by random labels and 'z' by mistakes, whose figures do not "):
        compare_runs(folders, tmp_path / "all.png")
    assert sorted(tmp_path.iterdir()) == before
    for one in ("z", "w"):
        compare_runs({one: folders[one], "again": folders[one]}, tmp_path / f"{one}.png")


def test_a_single_edit_has_no_interval(run, tmp_path):
    found = compare_runs({"one": run("a", [0.02])}, tmp_path / "one.png")
    assert math.isnan(found["one"].half_width)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/a"], "name=folder, got 'runs/a'"),
        (["a=nowhere"], "'nowhere' is no log folder .* no metrics.json"),
        (["a={a}", "a={a}"], "two runs .* 'a'"),
        (["a={a}", "--output=a.pdf"], "as .png, got 'a.pdf'"),
        (["a={empty}"], "'.*empty' does not hold"),
        (["a={validated}"], "'.*validated' does not hold .*no 'test_error'"),
    ],
)
def test_mistakes_end_in_one_sentence(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    folders = {"a": run("a", [0.1, 0.2]), "empty": run("empty", []), "validated": run("validated", [0.1])}
    (folders["validated"] / "metrics.json").write_text('{"val_error": 0.1}')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        compare([argument.format(**folders) for argument in arguments])
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("ending", [".png", ".md"])
def test_a_file_in_the_place_is_kept_unless_it_may_be_replaced(run, tmp_path, ending):
    path, folder = tmp_path / "own.png", run("a", [0.1, 0.2])
    path.with_suffix(ending).write_text("somebody's")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=f"own{ending}' is there already: choose another --output"):
        compare([f"a={folder}", f"--output={path}"])
    assert path.with_suffix(ending).read_text() == "somebody's"
    assert sorted(tmp_path.iterdir()) == before
    compare([f"a={folder}", f"--output={path}", "--replace"])
    assert "| a | 12.50 |" in path.with_suffix(".md").read_text()
