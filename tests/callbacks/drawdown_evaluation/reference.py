"""Evaluations of a small network's edits, and a plain second implementation of what they come to."""

import copy

import numpy as np
import torch
from torch.utils.data import TensorDataset

from editable.callbacks import DrawdownEvaluation
from editable.data import AugmentedViews
from editable.editing import Editor, RMSProp
from tests.editing.reference import rmsprop, textbook_edit
from tests.tasks.reference import LAYERS, NUM_CLASSES, images_and_labels

ALPHA, MAX_STEPS = 0.05, 3
NUM_VIEWS, SENSITIVE_MARGIN = 8, 0.05
NAMES = ["3.weight", "3.bias", "4.weight", "4.bias"]


def make_editor(max_steps=MAX_STEPS):
    return Editor(RMSProp(ALPHA), max_steps)


def make_evaluation(num_edits=9, **settings):
    return DrawdownEvaluation(num_edits, **{"editor": make_editor(), "editable_layers": LAYERS, **settings})


def data_for(network, number=40, seed=3):
    """Images of which the network gets about a quarter wrong."""
    images, random = images_and_labels(number, seed=seed)
    predictions = copy.deepcopy(network).eval()(images).argmax(dim=1)
    labels = torch.where(torch.arange(number) % 4 == 1, random, predictions)
    return images, labels


def published_edits(num_images, num_edits):
    np.random.seed(9)
    indices = np.random.permutation(num_images)[:1000]
    labels = np.random.randint(0, NUM_CLASSES, len(indices))
    return list(zip(indices[:num_edits].tolist(), labels[:num_edits].tolist(), strict=True))


def naive(network, images, labels, pairs, stride=1, max_steps=MAX_STEPS, sensitive_margin=SENSITIVE_MARGIN):
    """Edit a copy for each pair, and run the whole test set and all views through the whole network before and after.

    Returns the metrics, and the figures of each edit by name.
    """
    scoring, targets = images[::stride], labels[::stride]
    views = AugmentedViews(TensorDataset(images, labels), NUM_VIEWS, "crop_flip", seed=0)

    def predict(edited, inputs):
        return edited.eval()(inputs).argmax(dim=1)

    base = copy.deepcopy(network).eval()
    before, probabilities = predict(base, scoring), base(scoring).softmax(dim=1)
    sensitive = [
        before[i] == targets[i] and row.max() - row.sort()[0][-2] < sensitive_margin
        for i, row in enumerate(probabilities)
    ]
    sensitive = [i for i, counts in enumerate(sensitive) if counts]
    error = (before != targets).double().mean().item()
    rows = []
    for index, label in pairs:
        edited, success, num_steps = textbook_edit(
            network,
            NAMES,
            lambda params, grads, state: rmsprop(params, grads, state, ALPHA, 0.5),
            images[index : index + 1],
            torch.tensor([label]),
            max_steps,
        )
        after = predict(edited, scoring)
        row = {"success": float(success), "num_steps": num_steps}
        row["drawdown"] = (after != targets).double().mean().item() - error
        row["agreement"] = np.mean([new == old for new, old in zip(after.tolist(), before.tolist(), strict=True)])
        if sensitive:
            row["sensitive_agreement"] = np.mean([after[i].item() == before[i].item() for i in sensitive])
        for name, judged in (("generality_before", base), ("generality", edited)):
            row[name] = np.mean([predict(judged, view[None]).item() == label for view in views[index]])
        rows.append(row)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    metrics = {name: np.mean(values) for name, values in columns.items()}
    metrics["success_rate"] = metrics.pop("success")
    metrics["drawdown_absolute"] = np.mean(np.abs(columns["drawdown"]))
    if any(columns["success"]):
        metrics["generality_of_successes"] = np.mean([row["generality"] for row in rows if row["success"]])
    counts = {"num_edits": len(pairs), "num_sensitive_images": len(sensitive), "scoring_error": error}
    return {**metrics, **counts}, columns
