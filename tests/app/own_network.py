"""The small network as a class that a configuration can name."""

from torch import nn

__all__ = ["OwnNetwork"]


class OwnNetwork(nn.Sequential):
    """Takes digits; with the names of weights of :func:`tests.app.small.trained`."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
