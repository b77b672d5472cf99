"""Images of shards that webdataset has written: as it reads them, in our order, and one sentence for what cannot be."""

import tarfile
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data import WebDatasetDataModule
from editable.data.modules.image_names import image_names
from editable.data.modules.training_order import EpochSampler
from editable.errors import UserError

webdataset = pytest.importorskip("webdataset")
NAMES = ("cat", "dog", "owl")


def write(folder: Path, split: str, number: int, per_shard: int = 4, label: str | None = None) -> list[np.ndarray]:
    """Write shards with images of random pixels, one class after the other; return the pixels."""
    random, made = np.random.RandomState(len(split)), []
    with webdataset.ShardWriter(str(folder / f"{split}-%04d.tar"), maxcount=per_shard, verbose=0) as writer:
        for position in range(number):
            made.append(random.randint(0, 256, (8, 10, 3), dtype=np.uint8))
            text = NAMES[position % 3] if label is None else label
            writer.write({"__key__": f"{split}{position:03}", "png": made[-1], "cls": text.encode()})
    return made


def module(folder: Path, **settings: object) -> WebDatasetDataModule:
    usual = {"batch_size": 2, "num_workers": 0, "mean": (0, 0, 0), "std": (1, 1, 1)}
    return WebDatasetDataModule(str(folder), **{**usual, **settings})


@pytest.mark.parametrize("cache", [False, True])
def test_images_and_labels_are_those_that_webdataset_reads(tmp_path: Path, cache: bool):
    written = {split: write(tmp_path, split, number) for split, number in (("train", 11), ("val", 3), ("test", 5))}
    data = module(tmp_path, cache=cache)
    data.setup("fit")
    data.setup("test")
    assert data.classes == list(NAMES)
    for split, pixels in written.items():
        images = data._split(split)
        assert torch.equal(
            torch.stack([image for image, _ in images]), torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
        )
    shards = sorted(str(path) for path in tmp_path.glob("train-*.tar"))
    theirs = list(webdataset.WebDataset(shards, shardshuffle=False))
    for (image, label), sample in zip(data._split("train"), theirs, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(Image.open(BytesIO(sample["png"]))))
        assert NAMES[label] == sample["cls"].decode()
    names = image_names(data.test_dataset)
    assert names == [f"test-000{position // 4}/test{position:03}.png" for position in range(5)]


def test_validation_is_held_out_and_limits_are_kept(tmp_path: Path):
    write(tmp_path, "train", 30)
    data = module(tmp_path, validation_fraction=0.2, train_limit=10, test_limit=4)
    data.setup("fit")
    data.setup("test")
    assert [len(part) for part in (data.train_dataset, data.val_dataset, data.test_dataset)] == [10, 6, 4]
    assert data.tests_on_validation


def test_each_process_reads_its_share_and_a_resumed_epoch_goes_on(tmp_path: Path):
    write(tmp_path, "train", 12, label="7")
    data = module(tmp_path, validation_fraction=0)
    data.setup("fit")
    assert data.num_classes == 8
    shares = [[index for _, index in EpochSampler(data.train_dataset, 0, 3, rank)] for rank in range(3)]
    assert sorted(chain(*shares)) == list(range(12))
    sampler = EpochSampler(data.train_dataset, 0)
    whole = list(sampler)
    sampler.begin_at(0, 5)
    assert list(sampler) == whole[5:]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_the_same(tmp_path: Path, workers: int):
    written = write(tmp_path, "test", 6)
    data = module(tmp_path, num_workers=workers)
    data.setup("test")
    batch = torch.cat([images for images, _ in data.test_dataloader()])
    assert torch.equal((batch * 255).round().to(torch.uint8), torch.from_numpy(np.stack(written)).permute(0, 3, 1, 2))


def refusal(folder: Path, **settings: object) -> str:
    with pytest.raises(UserError) as raised:
        module(folder, **settings).setup("fit")
    return str(raised.value)


def test_what_cannot_be(tmp_path: Path):
    assert f"'{tmp_path}' has no shard train-*.tar" in refusal(tmp_path)
    assert f"no folder of shards '{tmp_path / 'no'}'" in refusal(tmp_path / "no")
    for address in ("pipe:cat x.tar", "s3://bucket/train-0.tar", "/abs/train-*.tar", ""):
        assert f"train is '{address}', but must be a pattern of files in root" in refusal(tmp_path, train=address)
    assert "train, val and test must differ" in refusal(tmp_path, val="test-*.tar")
    write(tmp_path, "train", 6)
    assert "has the label 'owl', which is none of the 2 classes" in refusal(tmp_path, classes=["cat", "dog"])
    assert "has no label: put it into 'train000.label'" in refusal(tmp_path, label_extension="label")


def test_damaged_shards(tmp_path: Path):
    write(tmp_path, "train", 6)
    shard = tmp_path / "train-0000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:700])
    assert "cannot be read as a tar file that is not compressed" in refusal(tmp_path) or "no label" in refusal(tmp_path)
    shard.write_bytes(b"no tar file" * 100)
    assert "cannot be read as a tar file that is not compressed" in refusal(tmp_path)
    with tarfile.open(shard, "w:gz"):
        pass
    assert "cannot be read as a tar file that is not compressed" in refusal(tmp_path)
    with tarfile.open(shard, "w"):
        pass
    (tmp_path / "train-0001.tar").unlink()
    assert "has no images" in refusal(tmp_path) or "have no image" in refusal(tmp_path)


def tar_of(path: Path, *members: tuple[str, bytes | str, bytes]) -> None:
    """Write a tar file of members, each a name, its content or where it leads to, and its type."""
    with tarfile.open(path, "w") as file:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(content, str):
                info.linkname, content = content, b""
            info.size = len(content)
            file.addfile(info, BytesIO(content))


def pixel(red: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (1, 1), (red, 0, 0)).save(file, "png")
    return file.getvalue()


FILE, HARD, SYMBOLIC = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def test_links_lead_to_their_files(tmp_path: Path):
    tar_of(
        tmp_path / "train-0.tar",
        ("./a/later.png", "../b/file.png", SYMBOLIC),
        ("./a/later.cls", b"cat", FILE),
        ("./b/file.png", pixel(40), FILE),
        ("./b/file.cls", b"dog", FILE),
        ("./b/same.png", "./b/file.png", HARD),
        ("./b/same.cls", "file.cls", SYMBOLIC),
        ("./c/chain.png", "../a/later.png", SYMBOLIC),
        ("./c/chain.cls", b"cat", FILE),
    )
    data = module(tmp_path, validation_fraction=0)
    data.setup("fit")
    pairs = [(int(image[0]), NAMES[label]) for image, label in data._split("train")]
    assert pairs == [(40, "cat"), (40, "dog"), (40, "dog"), (40, "cat")]


@pytest.mark.parametrize("to", ["x.png", "y.png", "/etc/x.png", "../out.png"])
def test_a_link_to_no_file_of_the_shard_is_refused(tmp_path: Path, to: str):
    tar_of(tmp_path / "train-0.tar", ("x.cls", b"cat", FILE), ("x.png", to, SYMBOLIC))
    message = f"'x.png' of '{tmp_path / 'train-0.tar'}' is a link to '{to}', which is no file of the shard"
    assert message in refusal(tmp_path)


def test_a_label_without_an_image_is_refused(tmp_path: Path):
    shard = tmp_path / "train-0.tar"
    good = ("a.png", pixel(1), FILE), ("a.cls", b"cat", FILE)
    tar_of(shard, *good, ("b.gif", b"GIF89a", FILE), ("b.cls", b"dog", FILE))
    assert f"the sample 'b' of '{shard}' has a label, but no image of a format that is read (" in refusal(tmp_path)


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_shard_of_two_parts_is_refused(tmp_path: Path, stage: str):
    write(tmp_path, "train", 3)
    write(tmp_path, "test", 3)
    with pytest.raises(UserError) as raised:
        module(tmp_path, train="*.tar").setup(stage)
    shard = tmp_path / "test-0000.tar"
    assert f"the shard '{shard}' is matched by train ('*.tar') and by test ('test-*.tar')" in str(raised.value)
    assert "by train ('train-*.tar') and by val ('./train-*.tar')" in refusal(tmp_path, val="./train-*.tar")
    module(tmp_path, train="*.tar", test="held-out-*.tar").setup("fit")
