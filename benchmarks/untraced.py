"""What it costs that torch.fx cannot trace a network: a vision transformer of transformers against the same of timm.

Both have random weights and the same sizes. Edits of the classifier, and of the last block, which lies inside what
cannot be traced in the one of transformers: then the whole network is run for every step of an edit and for every
edited network. Rounds alternate between the two, in processor seconds; medians count. It takes the extra `hub`.

    python benchmarks/untraced.py
"""

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import timm
import torch
from measuring import interleaved_seconds, parser, processor_line
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from editable.editing import Editor, RMSProp
from editable.models import SplitNetwork, hugging_face_classifier

UNREACHABLE = 1e4  # margin in nats
PLACES = {"classifier": ("head", "classifier"), "last block": ("blocks.{last}", "vit.layers.{last}")}


def networks(image_size: int, width: int, blocks: int) -> tuple[nn.Module, nn.Module]:
    """The network of timm and that of transformers, with a head for each 64 values."""
    heads = max(1, width // 64)
    ours = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=image_size,
        patch_size=4,
        num_classes=10,
        embed_dim=width,
        depth=blocks,
        num_heads=heads,
    )
    sizes = {"hidden_size": width, "num_hidden_layers": blocks, "num_attention_heads": heads}
    sizes |= {"intermediate_size": 4 * width, "image_size": image_size, "patch_size": 4}
    return ours.eval(), hugging_face_classifier("vit", False, num_labels=10, **sizes).eval()


def work(split: SplitNetwork, images: Tensor, steps: int) -> dict[str, Callable[[], object]]:
    """An edit of the first image, and the images through an edited network."""
    editor = Editor(RMSProp(1e-5), steps, UNREACHABLE)
    params = {name: param.detach() for name, param in split.params.items()}
    with torch.no_grad():
        features = split.prefix(images)
    first = tuple(feature[:1] for feature in features)
    return {
        "edit": partial(editor, split.suffix, params, first, torch.tensor([3])),
        "images": partial(score, split, features, params),
    }


@torch.no_grad()
def score(split: SplitNetwork, features: tuple[Tensor, ...], params: dict[str, Tensor]) -> Tensor:
    return split.suffix(features, params)


def main() -> None:
    made = parser(__doc__, batch_size=64, repeats=3)
    made.set_defaults(threads=1, width=192)
    made.add_argument("--blocks", type=int, default=12, help="of the transformer (default: %(default)s)")
    made.add_argument("--steps", type=int, default=10, help="k, the updates of an edit (default: %(default)s)")
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    warnings.simplefilter("ignore")  # that it cannot be traced is what is measured
    images = torch.randn(arguments.batch_size, 3, arguments.size, arguments.size)
    both, runs = networks(arguments.size, arguments.width, arguments.blocks), {}
    for place, layers in PLACES.items():
        for name, network, layer in zip(("timm", "transformers"), both, layers, strict=True):
            split = SplitNetwork(network, [layer.format(last=arguments.blocks - 1)])
            for kind, run in work(split, images, arguments.steps).items():
                runs[place, kind, name] = run
    console = Console()
    found = interleaved_seconds(runs, arguments.repeats, time.process_time, console, "rounds")
    seconds = {key: statistics.median(values) for key, values in found.items()}
    table = Table("edited", "work", "timm, s", "transformers, s", "ratio")
    titles = {"edit": f"an edit of {arguments.steps} steps", "images": f"{len(images)} images by an edited network"}
    for place, kind in dict.fromkeys(key[:2] for key in seconds):
        ours, theirs = seconds[place, kind, "timm"], seconds[place, kind, "transformers"]
        table.add_row(place, titles[kind], f"{ours:.5f}", f"{theirs:.5f}", f"{theirs / ours:.2f}")
    console.print(processor_line())
    console.print(table)


if __name__ == "__main__":
    main()
