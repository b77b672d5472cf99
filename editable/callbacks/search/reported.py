"""The edits that results are reported on, where the test images are some of the images that are searched with."""

from torch import Tensor

from editable.data import Edits, EditStream

__all__ = ["ReportedEdits"]


class ReportedEdits(EditStream):
    """The edits that a stream chooses of the test images, by their positions among other images that hold them.

    Args:
        stream: The stream, bound to the test images.
        positions: Of the test images among the others, int64 ``[N]``.
    """

    def __init__(self, stream: EditStream, positions: Tensor) -> None:
        self._stream, self._positions = stream, positions

    def __call__(self, labels: Tensor, predictions: Tensor, num_classes: int, num_edits: int | None = None) -> Edits:
        """Choose the edits, at most one of each test image; see :meth:`EditStream.__call__`."""
        some = None if num_edits is None else min(num_edits, len(self._positions))
        edits = self._stream(labels[self._positions], predictions[self._positions], num_classes, some)
        return Edits(self._positions[edits.indices], edits.labels)
