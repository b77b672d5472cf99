"""The benchmarks run, at a size that says nothing about speed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = {
    "unroll.py": ["--width", "2", "--size", "8", "--steps", "2", "--repeats", "1"],
    "drawdown.py": ["--width", "2", "--size", "8", "--images", "20", "--edits", "2", "--steps", "2", "--repeats", "1"],
}


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_help(script: str):
    text = run(script, "--help")
    assert "usage:" in text
    assert "--repeats" in text


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_tiny_run(script: str):
    text = run(script, *TINY[script])
    if script == "unroll.py":
        assert text.count("ours (suffix)") == text.count("higher (whole)") == 2
    else:
        assert "errors after: 2 of 2 edits agree" in text
        assert "features kept: True" in text
