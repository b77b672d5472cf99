"""Which images choose among rewrites, and on which, that have chosen nothing, the chosen one is reported."""

from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset, Subset

from editable.callbacks.site.sets import halves, manipulated_images, original_images, validation_images
from editable.data import ImageDataModule, RewriteRule, labelled_folder
from editable.data.images.same_images import SameImages

__all__ = ["ChooseOn", "RewriteImages", "places_in", "rewrite_images", "without_exemplars"]

ChooseOn: TypeAlias = Literal["val", "half"]
"""Other images to choose by: the data module's validation images, or half of the test images."""


class RewriteImages(NamedTuple):
    """The sets of images of a run by name; an item is an image [C, H, W] as the network takes it, and its label.

    Attributes:
        choosing: ``target``, images with the new concept, and, where there is a choice, ``others``.
        reporting: ``report``, the test images that choose nothing, ``exemplars``, and, where there are any,
            ``held_out``, ``photographs``, and ``trial`` and ``trial_originals`` in the same order.
    """

    choosing: dict[str, Dataset]
    reporting: dict[str, Dataset]


def places_in(images: Dataset, test_images: Dataset) -> list[int] | None:
    """Return which of the test images some images are; none where they are others."""
    if images is test_images:
        return list(range(len(test_images)))  # type: ignore[arg-type]
    return list(images.indices) if isinstance(images, Subset) and images.dataset is test_images else None


def without_exemplars(images: Dataset, test_images: Dataset, is_exemplar: Tensor, exemplars: SameImages) -> Dataset:
    """Return images that choose, without those that are exemplars, unless nothing would be left.

    Args:
        images: All of them.
        test_images: The test images.
        is_exemplar: Which of those are the same as an exemplar, bool [N].
        exemplars: Finds them among images that are no test images.
    """
    places = places_in(images, test_images)
    if places is None:
        kept = exemplars.others(images)
        return Subset(images, kept) if 0 < len(kept) < len(images) else images  # type: ignore[arg-type]
    kept = [place for place in places if not is_exemplar[place]]
    return Subset(test_images, kept) if 0 < len(kept) < len(places) else images


def rewrite_images(
    test_images: Dataset,
    data: ImageDataModule,
    rule: RewriteRule,
    validation_rule: RewriteRule | None = None,
    trial_rules: list[RewriteRule] | None = None,
    choose_on: ChooseOn | None = None,
    photographs: str | None = None,
    seed: int = 0,
) -> RewriteImages:
    """Return the sets of images of a run.

    Args:
        test_images: All of them.
        data: The data module, which knows classes and normalisation.
        rule: Exemplars that make the rewrite.
        validation_rule: Exemplars to choose by; by default those that make it.
        trial_rules: Exemplars that neither make nor choose it.
        choose_on: Other images to choose by; none where there is nothing to choose.
        photographs: Folder of real images of the new concept, ``<class>/<image>``.
        seed: Of the halves of the test images.

    Raises:
        UserError: If there are no validation images to choose by, or these are the test images, or the folder is no
            folder of labelled images.
    """
    choosing = {"target": manipulated_images([validation_rule or rule], data)}
    reported = test_images
    if choose_on == "half":
        choosing["others"], reported = halves(test_images, seed)
    elif choose_on == "val":
        choosing["others"] = validation_images(data, "which must not choose a rewrite too: set choose_on to half")
    reporting = {"report": reported, "exemplars": manipulated_images([rule], data)}
    if validation_rule is not None:
        reporting["held_out"] = choosing["target"]
    if photographs is not None:
        reporting["photographs"] = data.evaluated(labelled_folder(photographs, data.classes))
    if trial_rules:
        reporting["trial"] = manipulated_images(trial_rules, data)
        reporting["trial_originals"] = original_images(trial_rules, data)
    return RewriteImages(choosing, reporting)
