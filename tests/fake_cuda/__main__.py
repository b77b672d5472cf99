"""Run a program on the device: ``python -m tests.fake_cuda [--waits N] program.py arguments``."""

import argparse
import runpy
import sys
from pathlib import Path

from tests.fake_cuda.counting import counting
from tests.fake_cuda.device import switch_on

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fake_cuda", description=__doc__)
    parser.add_argument("--waits", type=int, metavar="N", help="say what made the host wait, by the N innermost lines")
    parser.add_argument("program", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    switch_on()
    sys.argv = [str(asked.program), *asked.arguments]
    sys.path[0] = str(asked.program.resolve().parent)
    if asked.waits is None:
        runpy.run_path(str(asked.program), run_name="__main__")
    else:
        import torch  # noqa: F401  (with which the device comes)

        try:
            with counting(depth=asked.waits) as count:
                runpy.run_path(str(asked.program), run_name="__main__")
        finally:
            print("\n".join(count.lines()), file=sys.stderr)
