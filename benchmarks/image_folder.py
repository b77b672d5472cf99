"""An image folder as large as one likes: what listing, splits, names and identities take, of time and of memory.

    python benchmarks/image_folder.py                                     # 1000 classes × 200 images
    python benchmarks/image_folder.py --classes 1000 --images 1281        # as many as ImageNet has

The folder is made of links to one small JPEG for each class, below ``--folder``, and removed at the end. Each row runs
in a process of its own: its seconds are those of the processor, its MiB what the process has grown by at most, and
bytes an image what stays. Times of a shared disk are another matter: a listing asks it for each folder once, for no
file.
"""

import argparse
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measuring import processor_line
from PIL import Image
from rich.console import Console
from rich.progress import track

from editable.callbacks.run.image_identity import images_identity
from editable.data import ImageFolderDataModule
from editable.data.images.reader import read_image
from editable.data.modules.augmentations import make_augmentation
from editable.data.modules.image_names import image_names
from editable.tables import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    parser.add_argument("--classes", type=int, default=1000, help=f"class folders {default}")
    parser.add_argument("--images", type=int, default=200, help=f"images in each {default}")
    parser.add_argument("--repeats", type=int, default=20, help=f"images decoded for a rate {default}")
    parser.add_argument(
        "--folder", type=Path, help="where the tree is made, for a while; by default a temporary folder"
    )
    parser.add_argument(
        "--only", nargs="*", default=[""], help="rows whose name has one of these words; by default all"
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    console = Console()
    console.print(processor_line())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
        make_tree(Path(root), arguments.classes, arguments.images, console)
        number, rows = arguments.classes * arguments.images, []
        for what in (some for some in WORK if any(word in some for word in arguments.only)):
            seconds, most, stays = measured(what, root)
            rows.append((what, f"{seconds:.2f}", f"{most:.0f}", f"{max(0.0, stays) * 2**20 / number:.0f}"))
        titles = (f"of {number} images in {arguments.classes} folders", "seconds", "MiB at most", "bytes an image")
        console.print(Table(titles, rows).terminal())
    console.print(Table(("one core decodes", "images a second"), decoding(arguments.repeats)).terminal())


def make_tree(root: Path, classes: int, images: int, console: Console) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (8, 8, 3), dtype=np.uint8)
    for label in track(range(classes), "making the folder", console=console, transient=True):
        folder = root / "train" / f"n{label:08}"
        folder.mkdir(parents=True)
        source = folder / f"n{label:08}_0.JPEG"
        Image.fromarray(pixels).save(source, "JPEG")
        for number in range(1, images):
            os.link(source, folder / f"n{label:08}_{number}.JPEG")


def listing(root: str) -> object:
    return opened(root)


def opened(root: str) -> ImageFolderDataModule:
    data = ImageFolderDataModule(root, image_size=8, batch_size=8, num_workers=0)
    data._split("train")
    return data


def fitting(root: str) -> object:
    data = ImageFolderDataModule(root, image_size=8, batch_size=8, num_workers=0)
    data.setup("fit")
    return data, next(iter(data.train_dataloader()))


def naming(root: str) -> object:
    return image_names(opened(root)._split("train"))


def identifying(root: str) -> object:
    return images_identity(opened(root)._split("train"))


def walking(root: str) -> object:
    return sum(len(files) for _, _, files in os.walk(root))


WORK: dict[str, Callable[[str], object]] = {
    "os.walk alone": walking,
    "listed, with labels": listing,
    "a fit's first batch: listed, a tenth held out, shuffled": fitting,
    "listed, and all names asked for": naming,
    "listed, and recognised by each file's size and time": identifying,
}


def measured(what: str, root: str) -> tuple[float, float, float]:
    """Return seconds of the processor, and MiB at most and in the end, of a process of its own."""
    words = [sys.executable, __file__, "--measure", what, root]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds, most, stays = json.loads(result.stdout)
    return seconds, most, stays


def measure(what: str, root: str) -> None:
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
    start = time.process_time()
    left = WORK[what](root)
    seconds = time.process_time() - start
    gc.collect()
    print(json.dumps((seconds, status("VmHWM") - before, status("VmRSS") - before)))
    del left


def status(name: str) -> float:
    """Return a figure of this process's memory in MiB, as Linux has it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def decoding(repeats: int) -> list[tuple[str, str]]:
    """Return rates for a smooth picture of the size that ImageNet's have on average."""
    torch.set_num_threads(1)
    small = np.random.RandomState(0).randint(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    folder = Path(tempfile.mkdtemp())
    path = folder / "image.jpg"
    path.write_bytes(file.getvalue())
    crops = {name: make_augmentation(name, (224, 224), torch.nn.Identity()) for name in ("resized_crop_flip",)}
    crops["trivial_augment"] = make_augmentation("trivial_augment", (176, 176), torch.nn.Identity())
    rates = [("a photograph of 500×375", f"{rate(lambda: read_image(path), repeats):.0f}")]
    for name, crop in crops.items():
        rates.append((f"and augments it, {name}", f"{rate(lambda c=crop: c(read_image(path)), repeats):.0f}"))
    shutil.rmtree(folder)
    return rates


def rate(work: Callable[[], object], repeats: int) -> float:
    work()
    start = time.process_time()
    for _ in range(repeats):
        work()
    return repeats / (time.process_time() - start)


if __name__ == "__main__":
    main()
