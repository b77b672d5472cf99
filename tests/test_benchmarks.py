"""The benchmarks run, at a size that says nothing about speed."""

import contextlib
import runpy
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = {
    "unroll.py": "--width 2 --size 8 --steps 2 --repeats 1",
    "drawdown.py": "--width 2 --size 8 --images 20 --edits 2 --steps 2 --repeats 1",
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a benchmark as its own program, in this process; return what it prints."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("COLUMNS", "160")
    threads = torch.get_num_threads()

    def run(script: str, arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments.split()])
        with contextlib.suppress(SystemExit):
            runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)


@pytest.mark.parametrize("script", TINY)
def test_help(script: str, run):
    text = run(script, "--help")
    assert "usage:" in text
    assert "--repeats" in text


@pytest.mark.parametrize("rules", ["GD", "GD RMSProp"])
def test_unroll(rules: str, run):
    text = run("unroll.py", f"{TINY['unroll.py']} --rules {rules}")
    assert text.count("ours (suffix)") == text.count("higher (whole)") == len(rules.split())


@pytest.mark.parametrize("rule", ["GD", "RMSProp"])
def test_drawdown(rule: str, run):
    text = run("drawdown.py", f"{TINY['drawdown.py']} --rule {rule} --learning-rate 1e-3")
    assert "features kept: True" in text
    for figure in ("success", "number of steps", "errors after"):
        assert f"{figure}: 2 of 2 edits agree" in text
