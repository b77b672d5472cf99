"""The streams that tests share: each editor's, whole."""

from pathlib import Path
from typing import NamedTuple

import pytest

from editable.callbacks import CorrectionStream
from tests.callbacks.stream.streams import EDITORS, make_stream, run


class Whole(NamedTuple):
    """A stream that has run to its end."""

    kind: str
    stream: CorrectionStream
    metrics: dict[str, float]
    folder: Path


@pytest.fixture(scope="package", params=list(EDITORS))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Twelve corrections, each with one more view, one on top of the other."""
    return whole_of(request.param, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="package")
def minimal(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The same by the smallest change of the last layer alone."""
    return whole_of("minimal harm", tmp_path_factory.mktemp("minimal"))


def whole_of(kind: str, folder: Path) -> Whole:
    stream = make_stream(kind, {"edited_views": 1})
    return Whole(kind, stream, run(stream, folder), folder)
