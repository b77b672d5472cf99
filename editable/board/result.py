"""What is kept of a cell of the board, and the figures in it."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from editable.atomic import write_atomically
from editable.errors import UserError
from editable.models.machine.precision import processor_name
from editable.text_files import read_json

__all__ = ["Candidate", "Figures", "Result", "best_of", "read_results", "surroundings"]

PACKAGES = ("torch", "torchvision", "lightning", "numpy", "scipy")
KINDS = ("", "mistake_", "table_")
"""What stands before the names of metrics of edits, by kind."""
ROUNDING = 1e-9
"""Rates are counts over a number of images, and their differences are not exact."""


@dataclass(frozen=True)
class Figures:
    """What protocols have in common; rates and errors are fractions, and what a protocol does not measure is none.

    Attributes:
        success: Share of edits that hold: of a stream after the last one, else each by itself.
        harm: Rise of the error rate on other images, by all edits of a stream or in the mean by one.
        half_width: Of the 95 % interval of ``harm``, where images were sampled.
        error_before: Error rate of the unedited network on the judging images.
        broken: Share of the judging images that were right and are wrong.
        generality: Share of further views of edited images that have the label asked for.
        group_generality: Share of other mistakes of the same kind that are right.
        seconds_per_edit: Of the edits alone, once features are there.
        num_edits: Number of edits.
    """

    success: float
    harm: float
    half_width: float | None
    error_before: float
    broken: float | None
    generality: float | None
    group_generality: float | None
    seconds_per_edit: float | None
    num_edits: int

    @classmethod
    def of(cls, command: str, metrics: Mapping[str, float]) -> "Figures":
        """Take them from the metrics of a run of ``train.py test`` or ``train.py stream``.

        Raises:
            UserError: If one that must be there is not.
        """
        try:
            if command == "stream":
                some = {name.removeprefix("stream_"): value for name, value in metrics.items()}
                before, success = some["error_before"], some["retention"]
                harm = some["error"] - before
            else:
                kind = next((some for some in KINDS if f"{some}drawdown" in metrics), "")
                some = {name.removeprefix(kind): value for name, value in metrics.items()}
                before, success, harm = some["scoring_error"], some["success_rate"], some["drawdown"]
            return cls(
                success,
                harm,
                some.get("drawdown_half_width"),
                before,
                some.get("broken"),
                some.get("generality"),
                some.get("group_generality"),
                some.get("seconds_per_edit"),
                int(some["num_edits"]),
            )
        except KeyError as error:
            raise UserError(f"the metrics of a run of {command} lack {error}") from error


@dataclass(frozen=True)
class Candidate:
    """Constants that were tried on edits that are not reported.

    Attributes:
        constants: By name.
        metrics: What came out; none where it has failed.
        seconds: That it took.
        failed: Why it has failed, or nothing.
    """

    constants: dict[str, Any]
    metrics: dict[str, float] | None
    seconds: float
    failed: str = ""


@dataclass(frozen=True)
class Result:
    """What is kept of a cell, as a JSON file.

    Attributes:
        network: Its name.
        protocol: Its name.
        editor: Its name.
        titles: What the page calls the three.
        command: Subcommand of ``train.py``.
        metrics: Of the reported run, as in its ``metrics.json``.
        points: Of a stream, a line for each moment that it was looked at.
        seconds: That the reported run took.
        constants: That were chosen.
        searched: All that were tried, in order.
        config: Configuration of the reported run, with the chosen constants.
        asked: All that was asked; see :meth:`editable.board.Cell.asked`.
        surroundings: Versions, commit and hardware.
    """

    network: str
    protocol: str
    editor: str
    titles: tuple[str, str, str]
    command: str
    metrics: dict[str, float]
    points: list[dict[str, float | None]]
    seconds: float
    constants: dict[str, Any]
    searched: list[Candidate]
    config: dict[str, Any]
    asked: dict[str, Any]
    surroundings: dict[str, Any]

    @property
    def figures(self) -> Figures:
        """Those that protocols have in common."""
        return Figures.of(self.command, self.metrics)

    def within(self, budget: float) -> tuple[int, float | None] | None:
        """Return the most edits up to which the harm of a stream stays within a budget, and group generality then.

        Streams are judged at a few numbers of edits, which are the possible answers, and zero.

        Args:
            budget: Rise of the error rate, a fraction.

        Returns:
            The number of edits with the group generality after them, which none are without edits; nothing where the
            protocol has no stream.
        """
        if not self.points:
            return None
        most: tuple[int, float | None] = (0, None)
        highest = self.figures.error_before + budget + ROUNDING
        for point in self.points:
            num_edits, error = point["num_edits"], point["error"]
            assert num_edits is not None
            assert error is not None
            if error > highest:
                break
            most = int(num_edits), point["group_generality"]
        return most

    def write(self, path: str | Path) -> None:
        """Write it, whole or not at all."""
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> "Result":
        """Read it.

        Raises:
            UserError: If the file is no result.
        """
        content = read_json(path)
        try:
            content["titles"] = tuple(content["titles"])
            content["searched"] = [Candidate(**some) for some in content["searched"]]
            result = cls(**content)
            assert len(result.titles) == 3
            return result
        except (TypeError, KeyError, AssertionError) as error:
            raise UserError(f"'{path}' is no result of the board ({error}): remove it") from error


def read_results(folder: str | Path) -> list[Result]:
    """Return all results below a folder, ``<network>/<protocol>/<editor>.json``, in the order of their names."""
    return [Result.read(path) for path in sorted(Path(folder).glob("*/*/*.json")) if not path.name.startswith(".")]


def best_of(figures: Sequence[Figures | None], success: float) -> int:
    """Return which candidate is chosen: of those that hold often enough the least harmful, else what holds most often.

    Ties are for the first one.

    Args:
        figures: Of each candidate; none of one that has failed, and one at least that has not.
        success: Share of edits that has to hold.
    """
    known = [number for number, some in enumerate(figures) if some is not None]

    def order(number: int) -> tuple[bool, float, float]:
        some = figures[number]
        assert some is not None
        return (False, some.harm, 0.0) if some.success >= success else (True, -some.success, some.harm)

    return min(known, key=order)


def surroundings() -> dict[str, Any]:
    """Return versions, commit and hardware, in words."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in ("editable", *PACKAGES)},
        "commit": commit(),
        "processor": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """Return the commit of the package, with a plus where it has been changed since; none outside of a clone."""
    package = Path(__file__).parents[1]
    try:
        answers = [
            subprocess.run(["git", "-C", str(package), *command], capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return answers[0].strip() + ("+" if answers[1].strip() else "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
