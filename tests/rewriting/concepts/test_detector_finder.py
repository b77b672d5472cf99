"""What detectors and segmentation networks find: unions of masks, boxes, probabilities; and what is no such network."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from editable.errors import UserError
from editable.rewriting.concepts.detector_finder import DetectorFinder
from editable.rewriting.concepts.segmentation_finder import SegmentationFinder

SIZE = (4, 6)
BOXES = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 4], [4, 0, 6, 1], [5, 3, 6, 4], [2.5, 0, 4, 1]])
"""Left, top, right, bottom."""
LABELS = torch.tensor([1, 1, 1, 2, 3])
SCORES = torch.tensor([0.9, 0.6, 0.3, 0.95, 0.8])


class Detector(nn.Module):
    """Detects the same in each image that is not black, and remembers what it was given."""

    def __init__(self, with_masks: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.with_masks, self.was_training = with_masks, True

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.was_training = self.training
        found = []
        for image in images:
            kept = slice(None) if image.any() else slice(0)
            one = {"boxes": BOXES[kept], "labels": LABELS[kept], "scores": SCORES[kept] + self.bias}
            if self.with_masks:
                one["masks"] = torch.stack([soft_mask(*box) for box in BOXES.int().tolist()])[kept, None]
            found.append(one)
        return found


def soft_mask(left: int, top: int, right: int, bottom: int) -> Tensor:
    """0.7 in the box, 0.4 around it."""
    mask = torch.full(SIZE, 0.4)
    mask[top:bottom, left:right] = 0.7
    return mask


def images() -> Tensor:
    return torch.stack([torch.ones(3, *SIZE), torch.zeros(3, *SIZE)])


@pytest.mark.parametrize("with_masks", [True, False])
def test_the_mask_is_the_union_of_wanted_detections(with_masks: bool):
    detector = Detector(with_masks).train()
    finder = DetectorFinder(detector, ["wheel"], ["background", "wheel", "cat", "dog"], threshold=0.6)
    finder.prepare(nn.Identity(), nn.Identity())
    masks = finder.find(images(), ["a", "b"])
    expected = torch.zeros(2, *SIZE)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            for left, top, right, bottom in BOXES[:2].tolist():  # label 1, score at least 0.6
                if left <= column < right and top <= row < bottom:
                    expected[0, row, column] = 1
    assert torch.equal(masks, expected)
    assert not detector.was_training
    assert detector.training, "it is left as it was"
    assert finder.activation(images(), ["a", "b"]).tolist() == pytest.approx([0.9, 0])


def test_pixels_that_a_box_cuts_count_in_part_and_labels_add():
    masks = DetectorFinder(Detector(False), [2, 3], threshold=0.5).find(images(), ["a", "b"])
    expected = torch.zeros(2, *SIZE)
    expected[0, 3, 5], expected[0, 0, 3], expected[0, 0, 2] = 1, 1, 0.5
    assert torch.equal(masks, expected)


def test_weights_are_loaded_and_tell_detectors_apart(tmp_path: Path):
    save_file({"bias": torch.tensor([-0.5])}, tmp_path / "weights.safetensors")
    plain = DetectorFinder(Detector(True), [1])
    weak = DetectorFinder(Detector(True), [1], weights=str(tmp_path / "weights.safetensors"))
    assert plain.find(images(), ["a", "b"])[0].any()
    assert not weak.find(images(), ["a", "b"]).any()
    assert weak.activation(images(), ["a", "b"]).tolist() == pytest.approx([0.4, -0.0])
    assert plain.settings["weights"] != weak.settings["weights"]


def test_a_detector_of_torchvision_does():
    torch.manual_seed(0)
    detector = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3, score_thresh=0.0)
    finder = DetectorFinder(detector, [1, 2], threshold=0.0)
    masks = finder.find(torch.rand(2, 3, 40, 60), ["a", "b"])
    assert masks.shape == (2, 40, 60)
    assert 0 <= masks.min() <= masks.max() <= 1


class Segmenter(nn.Module):
    """Logits that are the normalised colours, the third shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": images + self.shift * torch.tensor([0.0, 0, 1])[:, None, None], "aux": images * 0}


@pytest.mark.parametrize("labels", [[0], [2, 1]])
def test_segmentation_is_where_the_softmax_of_categories_is_high_enough(labels: list[int]):
    pictures = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.1, 0.3]
    finder = SegmentationFinder(Segmenter().double(), list(labels), threshold=0.6, mean=mean, std=std)
    finder.prepare(nn.Identity(), nn.Identity())
    masks = finder.find(pictures, ["a", "b", "c"])
    best = finder.activation(pictures, ["a", "b", "c"])
    for n in range(3):
        probabilities = []
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                powers = [torch.exp((pictures[n, c, y, x] - mean[c]) / std[c]) for c in range(3)]
                probability = sum(powers[label] for label in labels) / sum(powers)
                probabilities.append(probability.item())
                assert masks[n, y, x] == float(probability >= 0.6)
        assert best[n].item() == pytest.approx(max(probabilities), rel=1e-9)
    assert 0 < masks.mean() < 1


def test_segmenters_are_told_apart_by_weights(tmp_path: Path):
    save_file({"shift": torch.tensor([9.0])}, tmp_path / "weights.safetensors")
    moved = SegmentationFinder(Segmenter(), [2], weights=str(tmp_path / "weights.safetensors"))
    assert moved.find(torch.full((1, 3, *SIZE), 0.45), ["a"]).all()
    assert moved.settings != SegmentationFinder(Segmenter(), [2]).settings


def test_a_segmentation_network_of_torchvision_does():
    torch.manual_seed(0)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    masks = SegmentationFinder(network, [1, 2, 3], threshold=0.7).find(torch.rand(2, 3, 40, 60), ["a", "b"])
    assert masks.shape == (2, 40, 60)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_mistakes():
    with pytest.raises(UserError, match=r"threshold must be in \[0, 1\], got 1\.5"):
        DetectorFinder(Detector(True), [1], threshold=1.5)
    with pytest.raises(UserError, match=r"threshold must be in \(0, 1\], got 0"):
        SegmentationFinder(Segmenter(), [1], threshold=0)
    for kind, network in ((DetectorFinder, Detector(True)), (SegmentationFinder, Segmenter())):
        with pytest.raises(UserError, match="labels is empty"):
            kind(network, [])
        with pytest.raises(UserError, match="there is no weights file"):
            kind(network, [1], weights="nowhere.pth")
    with pytest.raises(UserError, match=r"Identity is no detector like those of torchvision.* use SegmentationFinder"):
        DetectorFinder(nn.Identity(), [1]).find(images(), ["a", "b"])
    with pytest.raises(UserError, match="Identity is no segmentation network like those of torchvision"):
        SegmentationFinder(nn.Identity(), [1]).find(images(), ["a", "b"])
    with pytest.raises(UserError, match="labels has 3, but the segmentation network has 3 categories"):
        SegmentationFinder(Segmenter(), [3]).find(images(), ["a", "b"])
