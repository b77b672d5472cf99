"""The Python on the pages runs, as it stands there, in an empty folder."""

import re
from pathlib import Path

import pytest
import torch

from editable.models import cifar_resnet18, write_weights
from tests.docs.blocks import blocks
from tests.paths import DOCS, ROOT
from tests.warned import WIDE_MEMORY

ELSEWHERE = {
    "patch-format": "a test of tests/editing/patches runs its lines on a patch of every kind",
    "your-own-network": "tests/test_own_network_page.py runs it",
}
GIVEN = {  # what a page speaks of before its lines, made small
    "generators": """
        import torch
        from editable.models import Generator
        torch.manual_seed(0)
        network = Generator(width=4)
        z1, z2, z3, z = (torch.randn(n, 64) for n in (1, 1, 2, 3))
        masks1, masks2, masks3 = (torch.zeros(n, 8, 8) for n in (1, 1, 2))
        for masks in (masks1, masks2, masks3):
            masks[:, 2:6, 2:6] = 1
    """,
    "inverse": """
        import torch
        from editable.models import cifar_resnet18
        from editable.rewriting import (InverseMoment, LayerBlock, RewriteProblem, collect_second_moment,
                                        exemplars_from_images, make_memory)
        torch.manual_seed(0)
        block = LayerBlock(cifar_resnet18(width=8), "layer3.0.conv1")
        memory = make_memory(tuple(block.weight.shape), block.geometry)
        images, manipulated = torch.randn(2, 4, 3, 32, 32)
        mask = torch.zeros(4, 32, 32)
        mask[:, 16:] = 1
        moment = collect_second_moment(block, memory, [images])
        exemplars = exemplars_from_images(block, images, manipulated, mask)
        problem = RewriteProblem(block, memory, exemplars, InverseMoment(moment), reference_images=images)
    """,
}
PAGES = [page for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))) if blocks(page, "python")]


def test_pages_that_are_left_out_are_there():
    assert {page.stem for page in PAGES} > ELSEWHERE.keys() | GIVEN.keys()


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in ELSEWHERE], ids=lambda page: page.stem)
@pytest.mark.filterwarnings(WIDE_MEMORY)
def test_it_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lines that read files of trained runs (the generators' second block) are compiled alone."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    Path("data").mkdir()
    write_weights(Path("data/cifar10-resnet18.safetensors"), cifar_resnet18(num_classes=10))
    names: dict[str, object] = {}
    given = "\n".join(line.removeprefix("        ") for line in GIVEN.get(page.stem, "").splitlines())
    for text in (given, *blocks(page, "python")):
        code = compile(text, str(page), "exec")
        if '"runs/' not in text:
            exec(code, names)
            saved = re.findall(r'\.save\("([^"]+)"\)', text)
            assert all(Path(file).is_file() for file in saved)
    assert len(names) > 1, "the page defines nothing"
