"""What rewritten networks predict on several sets of images; what no rewrite can change is computed once."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from editable.editing.evaluation.feature_store import FeatureStore
from editable.models import SplitNetwork
from editable.models.machine.devices import to_device

__all__ = ["RewrittenPredictions"]


class RewrittenPredictions:
    """Predicts the labels of sets of images with other parameters in place of some of a network's own.

    Features up to the first of these parameters are computed once and kept, in memory or, beyond the budget, on disk.
    Everything runs in evaluation mode, out of place.

    Args:
        network: The network, on the device where everything is to run.
        names: Names of the parameters that rewrites change.
        sets: The sets by name; an item is an image [C, H, W] and its label.
        batch_size: Number of images run at once.
        memory_budget: In bytes, for the features of all sets together.
        progress: Called with the number of images done since the last call, while features are computed.

    Attributes:
        labels: True labels of each set, int64 [N], on the CPU.
    """

    def __init__(
        self,
        network: nn.Module,
        names: Iterable[str],
        sets: Mapping[str, Dataset],
        batch_size: int,
        memory_budget: int,
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        self._split = SplitNetwork(network, list(names))
        self._batch_size = batch_size
        device = next(network.parameters()).device
        sizes = {name: len(images) for name, images in sets.items()}  # type: ignore[arg-type]
        self._stores: dict[str, FeatureStore] = {}
        for name, images in sets.items():
            share = memory_budget * sizes[name] // sum(sizes.values())
            store = self._stores[name] = FeatureStore(sizes[name], share, device)
            for batch, labels in DataLoader(images, batch_size=batch_size):
                with torch.no_grad():
                    store.add(self._split.prefix(to_device(batch, device)), labels)
                progress(len(labels))
        self.labels = {name: store.labels.cpu() for name, store in self._stores.items()}

    @cached_property
    def unedited(self) -> dict[str, Tensor]:
        """The labels that the network itself predicts, int64 [N] for each set."""
        return self({})

    @torch.no_grad()
    def __call__(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the predicted labels of each set, int64 [N], on the CPU.

        Args:
            params: Parameters by name; those that are left out keep the network's own values.
        """
        return {name: torch.cat(list(self._predict(store, params))) for name, store in self._stores.items()}

    def close(self) -> None:
        """Let go of the kept features."""
        for store in self._stores.values():
            store.close()

    def _predict(self, store: FeatureStore, params: Mapping[str, Tensor]) -> Iterable[Tensor]:
        for features, _ in store.batches(self._batch_size):
            yield self._split.suffix(features, params).argmax(dim=-1).cpu()
