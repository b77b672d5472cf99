"""Plain second implementations that the tests of tasks and callbacks compare against, and small data and networks."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from tests.editing.reference import margin_loss

NUM_CLASSES = 4
LAYERS = ["3", "4"]
"""The editable layers of :func:`small_network`: its second convolution and batch normalisation."""


def small_network(dtype: torch.dtype = torch.float64, num_classes: int = NUM_CLASSES, seed: int = 0) -> nn.Module:
    """Two convolutions with BatchNorm whose statistics are not the initial ones, and a linear layer."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(24, num_classes),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.to(dtype)


def images_and_labels(
    number: int, dtype: torch.dtype = torch.float64, num_classes: int = NUM_CLASSES, seed: int = 1
) -> tuple[Tensor, Tensor]:
    """Random images [number, 2, 6, 6] and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(number, 2, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    return images, torch.randint(num_classes, (number,), generator=generator)


def loader(images: Tensor, labels: Tensor, batch_size: int = 8) -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    log_p = logits - logits.exp().sum(dim=1, keepdim=True).log()
    return -torch.stack([log_p[row, label] for row, label in enumerate(labels.tolist())]).sum() / len(labels)


def kl_divergence(base_logits: Tensor, edited_logits: Tensor) -> Tensor:
    p, q = base_logits.softmax(dim=1), edited_logits.softmax(dim=1)
    return (p * (p.log() - q.log())).sum() / len(p)


def unrolled_edit(
    network: nn.Module,
    names: Sequence[str],
    image: Tensor,
    label: int,
    learning_rate: float | Tensor,
    decay: float | Tensor,
    max_steps: int,
    epsilon: float = 1e-6,
) -> tuple[dict[str, Tensor], Tensor, int]:
    """Edit by RMSProp on the whole network, every step in the graph: edited parameters, objective, number of steps."""
    theta: dict[str, Tensor] = {name: network.get_parameter(name) for name in names}
    square: dict[str, Tensor] = {}
    for step in range(max_steps + 1):
        loss = margin_loss(functional_call(network, theta, image[None]), torch.tensor([label]))
        if loss.item() <= 0 or step == max_steps:
            return theta, loss, step
        grads = dict(zip(names, torch.autograd.grad(loss, list(theta.values()), create_graph=True), strict=True))
        square = {
            name: grad**2 if step == 0 else decay * square[name] + (1 - decay) * grad**2 for name, grad in grads.items()
        }
        theta = {name: theta[name] - learning_rate * grads[name] / (square[name] + epsilon) ** 0.5 for name in names}
    raise AssertionError("unreachable")


def editable_training_loss(
    network: nn.Module,
    names: Sequence[str],
    images: Tensor,
    labels: Tensor,
    edits: Sequence[tuple[int, int]],
    *,
    learning_rate: float | Tensor,
    decay: float | Tensor,
    max_steps: int,
    c_edit: float,
    c_loc: float,
    detach_base: bool = True,
    own: bool = False,
) -> tuple[dict[str, Tensor], list[int]]:
    """One step of editable training, one edit after the other: the loss with its terms, and the steps of each edit.

    Args:
        edits: Pairs of a position in the batch and the label asked for.
        own: Measure the locality of edit e on images e, e + E, e + 2E, … alone.
    """
    logits = network.train()(images)
    network.eval()
    edit_losses, localities, steps = [], [], []
    for number, (index, label) in enumerate(edits):
        theta, loss, num_steps = unrolled_edit(network, names, images[index], label, learning_rate, decay, max_steps)
        share = slice(number, None, len(edits)) if own else slice(None)
        base = logits.detach() if detach_base else logits
        localities.append(kl_divergence(base[share], functional_call(network, theta, images[share])))
        edit_losses.append(loss)
        steps.append(num_steps)
    network.train()
    terms = {
        "base": cross_entropy(logits, labels),
        "edit": sum(edit_losses) / len(edits),
        "locality": sum(localities) / len(edits),
    }
    return {"loss": terms["base"] + c_edit * terms["edit"] + c_loc * terms["locality"], **terms}, steps


def predictions_after_a_training_step(network: nn.Module, images: Tensor) -> Tensor:
    """Predictions with running statistics, once these have seen the batch."""
    network = copy.deepcopy(network)
    network.train()(images)
    return network.eval()(images).argmax(dim=1)
