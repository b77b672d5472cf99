"""Corrections of a small network by a plain loop: copy it, give it the edited parameters, run it over all images."""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from editable.editing import BaseEditor

__all__ = ["Asked", "corrected_one_by_one", "corrected_together", "plain_figures", "predict", "with_params"]


class Asked(NamedTuple):
    """One correction: what is edited, what judges it, and the label; see `Correction`."""

    samples: Tensor
    views: Tensor
    changes: Tensor
    label: int


def predict(network: nn.Module, images: Tensor) -> list[int]:
    """Return predictions, one image after the other."""
    with torch.no_grad():
        return [int(copy.deepcopy(network).eval()(image[None])[0].argmax()) for image in images]


def with_params(network: nn.Module, params: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a network that has other parameters."""
    copied = copy.deepcopy(network)
    copied.load_state_dict(copied.state_dict() | dict(params))
    return copied.eval()


def corrected_one_by_one(
    network: nn.Module, editor: BaseEditor, names: Sequence[str], asked: Sequence[Asked]
) -> list[nn.Module]:
    """Return the network after each correction, each on top of the last, by its whole forward."""
    params = {name: network.get_parameter(name).detach().clone() for name in names}
    state: dict[str, Tensor] = {}
    networks = []
    for samples, _, _, label in asked:
        result, state = editor.extend(_whole(network), params, samples, torch.full((len(samples),), label), state)
        params = result.params
        networks.append(with_params(network, params))
    return networks


def corrected_together(
    network: nn.Module, editor: BaseEditor, names: Sequence[str], asked: Sequence[Asked]
) -> nn.Module:
    """Return the network with all corrections in one edit."""
    params = {name: network.get_parameter(name).detach().clone() for name in names}
    images = torch.cat([some.samples for some in asked])
    labels = torch.tensor([some.label for some in asked for _ in some.samples])
    return with_params(network, editor(_whole(network), params, images, labels).params)


def plain_figures(
    network: nn.Module, corrected: nn.Module, asked: Sequence[Asked], images: Tensor, labels: Tensor
) -> dict[str, float]:
    """Count what holds of corrections, and what they cost on judged images."""
    before, after, true = predict(network, images), predict(corrected, images), labels.tolist()
    rows = list(zip(true, before, after, strict=True))
    kinds = {(predict(network, some.samples[:1])[0], some.label) for some in asked}
    group = [now == label for label, was, now in rows if was != label and (was, label) in kinds]

    def share(which: Sequence[bool]) -> float:
        return sum(which) / len(which) if len(which) else float("nan")

    def holding(part: str) -> list[bool]:
        return [now == some.label for some in asked for now in predict(corrected, getattr(some, part))]

    return {
        "error_before": share([was != label for label, was, _ in rows]),
        "error": share([now != label for label, _, now in rows]),
        "broken": share([was == label and now != label for label, was, now in rows]),
        "mended": share([was != label and now == label for label, was, now in rows]),
        "agreement": share([was == now for _, was, now in rows]),
        "retention": share([predict(corrected, some.samples[:1])[0] == some.label for some in asked]),
        "generality": share(holding("views")),
        "changed": share(holding("changes")),
        "group_size": float(len(group)),
        "group_generality": share(group),
    }


def _whole(network: nn.Module):
    def forward(inputs: Tensor | tuple[Tensor, ...], params: Mapping[str, Tensor]) -> Tensor:
        images = inputs if isinstance(inputs, Tensor) else inputs[0]
        return functional_call(network.eval(), dict(params), (images,))

    return forward
