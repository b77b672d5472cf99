"""Every command on a page is one that the command line takes: its options and the files that come with the package."""

import pytest

from tests.command_line.parsing import OnlyParsed
from tests.docs.blocks import PAGES, commands
from tests.paths import ROOT
from tests.warned import TAKES_THE_PLACE

NOT_RUNS = {"--help", "app", "board", "compare", "patches"}  # not Lightning's: their own tests run them
MADE = {"--config", "--ckpt_path"}  # of what a run has made, there is nothing here


def parsed_words(words: list[str]) -> list[str]:
    """A command's words without files that other commands make, and with a configuration if there is none."""
    made = [i for i in range(1, len(words)) if words[i - 1] in MADE and not words[i].startswith("configs/")]
    left = [word for i, word in enumerate(words) if i not in made and i + 1 not in made and word != "…"]
    if "--config" in left or "--model" in left:
        return left
    return [left[0], "--config", "configs/digits/baseline.yaml", *left[1:]]


TYPED = {
    (page.stem, *parsed_words(words)): None
    for page in PAGES
    if page.stem != "your-own-network"  # test_own_network_page.py runs all of its commands
    for words in commands(page)
    if words and words[0] not in NOT_RUNS
}


def test_there_are_many():
    assert len(TYPED) > 60


@pytest.mark.parametrize("typed", TYPED, ids=lambda typed: " ".join(typed)[:60])
@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_it_is_taken(typed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    assert OnlyParsed(list(typed[1:])).subcommand == typed[1]
