"""What comes of a scan: what the replacement of a concept does to each class, by one network or two."""

from dataclasses import dataclass

from editable.callbacks.scan.classes import NetworkChanges, RankBy, ranking

__all__ = ["ScanOutcome"]


@dataclass(frozen=True)
class ScanOutcome:
    """What a scan has found.

    Attributes:
        classes: Names of all classes.
        network: What the replacement does, by the network itself.
        edited: The same by the edited network; none without one.
        target: Label of the class that the concept is held against.
        rank_by: The change that classes are ranked by.
        min_found: Least number of images with the concept in a class that is ranked.
    """

    classes: list[str]
    network: NetworkChanges
    edited: NetworkChanges | None
    target: int
    rank_by: RankBy
    min_found: int

    @property
    def order(self) -> list[int]:
        """Labels of the ranked classes, first the one that suffers most."""
        return self.order_by(self.rank_by)

    def order_by(self, rank_by: RankBy) -> list[int]:
        """Return the labels of the ranked classes in the order of one of the changes."""
        return ranking(self.network.by_class, rank_by, self.min_found)

    @property
    def num_images(self) -> int:
        """Number of images that were looked at."""
        return sum(some.num_images for some in self.network.by_class)

    @property
    def num_found(self) -> int:
        """Number of images where the concept was found."""
        return sum(some.num_found for some in self.network.by_class)

    def values(self) -> dict[str, float]:
        """Return all figures by their metrics' names; what is undefined is left out."""
        order = self.order
        values: dict[str, float] = {
            "num_images": self.num_images,
            "num_found": self.num_found,
            "num_ranked_classes": len(order),
        }
        effects = []
        for prefix, changes in (("", self.network), ("edited_", self.edited)):
            if changes is None:
                continue
            target = changes.by_class[self.target]
            effects.append(target.taken.before - target.taken.after)
            own = changes.values() | {f"target_{name}": value for name, value in target.values().items()}
            own["effect"] = effects[-1]
            values |= {f"{prefix}{name}": value for name, value in own.items()}
        values["target_num_found"] = self.network.by_class[self.target].num_found
        if self.target in order:
            values["target_rank"] = order.index(self.target) + 1
        if len(effects) == 2 and effects[0] != 0:
            values["effect_removed"] = 1 - effects[1] / effects[0]
        return {name: float(value) for name, value in values.items() if value == value}  # NaN: undefined
