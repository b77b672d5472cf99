"""What a GPU waits for and how long it works: edits, training, scoring, and the loops of rewriting.

`--device fake`: on the CUDA device that computes on the CPU (tests/fake_cuda), in miniature; counts how often each work
makes the host wait for the device, and the kernels that it starts, against bounds. It ends with status 1 where one is
exceeded, and says which lines waited. What is counted depends on the code alone, not on the machine.

`--device cuda`: on a card, at full size; times each work as it is, with TF32 allowed, with cuDNN's choice of algorithms
by trial, and with deterministic algorithms, in rounds that take turns; then what is chosen for a card beside the plain
way (`device_choices.py`), and both forms of edits by shape (`device_forms.py`). docs/performance.md has the tables. It
is sized for less than eight minutes. `--device cpu` does the same with the CPU, where the settings change nothing.
"""

import argparse
import sys
from pathlib import Path


def parse() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    made.add_argument("--device", choices=["fake", "cuda", "cpu"], default="fake", help=f"where {default}")
    made.add_argument("--width", type=int, help="channels of the first chain (default: 64; fake: 4)")
    made.add_argument("--size", type=int, help="height and width of the images (default: 32; fake: 16)")
    made.add_argument("--images", type=int, help="images that are scored (default: 10000; fake: 60)")
    made.add_argument("--edits", type=int, default=8, help=f"edits at once {default}")
    made.add_argument("--steps", type=int, default=10, help=f"k, the steps of an edit {default}")
    made.add_argument("--updates", type=int, help="of the loops of rewriting (default: 320; fake: 32)")
    made.add_argument("--repeats", type=int, default=5, help=f"rounds after the one that warms up {default}")
    made.add_argument("--seed", type=int, default=0, help=f"seed of weights and images {default}")
    found = made.parse_args()
    sizes = {"width": (64, 4), "size": (32, 16), "images": (10_000, 60), "updates": (320, 32)}
    for name, (full, small) in sizes.items():
        if getattr(found, name) is None:
            setattr(found, name, small if found.device == "fake" else full)
    return found


def main() -> None:
    arguments = parse()
    if arguments.device != "fake":
        from device_work import show_times

        show_times(arguments)
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.fake_cuda.building import why_not
    from tests.fake_cuda.device import fake_cuda, switch_on

    if fake_cuda() is None:
        reason = why_not()
        if reason is not None:
            sys.exit(reason)
        switch_on(in_children=False)
    from device_work import show_counts

    sys.exit(0 if show_counts(arguments) else 1)


if __name__ == "__main__":
    main()
