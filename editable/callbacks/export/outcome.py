"""What is told of an export."""

from dataclasses import dataclass

__all__ = ["ExportOutcome"]


@dataclass(frozen=True)
class ExportOutcome:
    """A file, beside the network that is in it.

    Attributes:
        format: Name of the format.
        file: Where it was written.
        num_bytes: Its size.
        num_parameters: Number of parameters of the network.
        num_images: Number of test images that both were run on.
        num_wrong: How many of them the file gets wrong.
        num_differing: How many of them the file gives another class than the network.
        difference: Largest difference of a logit, relative to the largest of its image or 1.
        tolerance: Largest such difference that is taken for rounding.
    """

    format: str
    file: str
    num_bytes: int
    num_parameters: int
    num_images: int
    num_wrong: int
    num_differing: int
    difference: float
    tolerance: float

    @property
    def refusal(self) -> str | None:
        """Why the file was not left; none where it computes what the network does."""
        if self.difference <= self.tolerance and not self.num_differing:
            return None
        return (
            f"the network as {self.format} computes other logits than itself, by up to {self.difference:.1e} where "
            f"{self.tolerance:g} is rounding, and another class for {self.num_differing} of {self.num_images} images: "
            "nothing was left; take the format safetensors"
        )

    def values(self) -> dict[str, float]:
        """Return all figures by their metrics' names."""
        return {
            "num_images": float(self.num_images),
            "num_differing": float(self.num_differing),
            "difference": self.difference,
            "error": self.num_wrong / self.num_images,
            "bytes": float(self.num_bytes),
        }
