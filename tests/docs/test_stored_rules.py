"""The table of few-shot rules on its page is that of the rules which the repository keeps."""

import csv
import re
from itertools import groupby
from statistics import fmean, stdev

import pytest
from scipy.stats import beta

from tests.paths import DOCS, ROOT

PAGE = (DOCS / "rewriting.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[−-]?\d+(?:\.\d+)?")


def test_the_page_has_the_figures_of_the_store():
    with (ROOT / "results" / "few_shot" / "vehicles_on_snow.csv").open(newline="", encoding="utf-8") as file:
        rules = list(csv.DictReader(file))
    shown = PAGE.split("| **rewriting `_fc`** |")[1].splitlines()[:4]
    by_shots = [list(some) for _, some in groupby(rules, key=lambda rule: rule["shots"])]
    assert len(by_shots) == len(shown) == 4
    for some, line in zip(by_shots, shown, strict=True):
        cells = [[float(one.replace("−", "-")) for one in NUMBER.findall(cell)] for cell in line.strip(" |").split("|")]
        *_, (strength,), (before, after), corrected, (makers,), (drop,), (broken,), (bound,) = cells
        draws = [list(each) for _, each in groupby(some, key=lambda rule: rule["draw"])]
        wrong = [[sum(int(rule[name]) for rule in draw) for draw in draws] for name in ("wrong_before", "wrong")]
        parts = [100 * (old - new) / old for old, new in zip(*wrong, strict=True)]
        of_makers = [sum(int(rule[name]) for rule in some) for name in ("makers_wrong_before", "makers_wrong")]
        drops = [(int(rule["others_wrong"]) - int(rule["others_wrong_before"])) / int(rule["others"]) for rule in some]
        most = max(int(rule["broken"]) for rule in some)
        assert strength == pytest.approx(fmean(float(rule["strength"]) for rule in some), abs=0.006)
        assert (before, after) == (wrong[0][0], pytest.approx(fmean(wrong[1]), abs=0.06))
        expected = [fmean(parts), *([stdev(parts)] if len(parts) > 1 else [])]
        assert corrected == pytest.approx(expected, abs=0.06)
        assert makers == pytest.approx(100 * (of_makers[0] - of_makers[1]) / of_makers[0], abs=0.06)
        assert drop == pytest.approx(100 * fmean(drops), abs=0.006)
        assert broken == most
        images = int(some[0]["others"])
        assert bound == pytest.approx(100 * beta.ppf(0.95, most + 1, images - most), abs=0.006)
