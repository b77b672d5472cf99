"""The oldest versions that pyproject.toml allows, as a file of constraints for pip: ``python -m tests.floors``."""

import re
import sys

from tests.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def floors() -> list[str]:
    """``name==version`` of everything that the package and its extras ask for, without its own extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+).*", one) for one in asked]
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    print("\n".join(floors()))
