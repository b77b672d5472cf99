"""Where the project's files lie, for tests that read them."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
DOCS = ROOT / "docs"
