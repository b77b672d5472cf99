"""Bad inputs through the command line: each ends in exit status 2 and one sentence, and leaves nothing behind.

The table is counted in ``docs/reliability.md``; a line here is a command, what is wrong with it, and what the sentence
says. All run in one process on handwritten digits and a network of a few channels.
"""

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from editable.cli import main
from editable.data import DigitsDataModule
from editable.editing import EditPatch, EditRecord, RateOutcome
from editable.models import cifar_resnet
from editable.starting.parts import NOT_BY_NAME
from editable.tasks import ClassificationTask
from tests.paths import CONFIGS
from tests.warned import TAKES_THE_PLACE, UNSAVED

SMALL = [
    f"--config={CONFIGS / 'digits' / 'baseline.yaml'}",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.limit_test_batches=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--model.network.width=4",
    "--evaluation.num_edits=0",
]
LONG = "x" * 300


class Bad(NamedTuple):
    """A command that cannot be meant.

    Attributes:
        command: The subcommand.
        options: What is wrong, besides options that are right.
        says: Part of the sentence.
    """

    command: str
    options: tuple[str, ...]
    says: str


def bad(command: str, says: str, *options: str) -> Bad:
    return Bad(command, options, says)


PLACES = [
    *(
        bad("test", says, f"--trainer.logger.save_dir={place}")
        for place, says in {
            "/proc/x": "the run's folder cannot be made or written to, '/proc/x'",
            "/sys/x": "the run's folder cannot be made or written to, '/sys/x'",
            "file": "not a directory; choose another trainer.logger.save_dir",
            "file/below": "not a directory",
            "/dev/null": "is a device, but must be a file or a folder",
            LONG: "file name too long",
            "zero\0byte": "embedded null byte",
            "loop": "too many levels of symbolic links",
        }.items()
    ),
    *(
        bad(command, says, "--trainer.logger=false", f"--trainer.default_root_dir={place}")
        for command in ("test", "fit")
        for place, says in {
            "/proc/x": "'/proc/x'",
            "file": "the run's folder cannot be made or written to, 'file'",
            "file/below": "not a directory",
            LONG: "file name too long",
        }.items()
    ),
    bad(
        "test",
        "'runs/taken/version_0/config.yaml' is of another run",
        *("--trainer.logger.name=taken",),
        "--trainer.logger.version=0",
    ),
    bad(
        "test",
        "'runs/done/version_0/metrics.json' is of another run",
        *("--trainer.logger.name=done",),
        "--trainer.logger.version=0",
    ),
    *(
        bad("fit", says, "--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.{option}")
        for option, says in {
            "dirpath=file": "the folder of checkpoints cannot be made or written to, '",
            "dirpath=/sys/x": "'/sys/x'",
            f"dirpath={LONG}": "file name too long",
            "save_top_k=-2": "save_top_k",
            "every_n_epochs=-1": "every_n_epochs",
        }.items()
    ),
]
DEVICES = [
    bad("test", "gpu", "--trainer.accelerator=gpu"),
    bad("test", "CUDAAccelerator", "--trainer.accelerator=cuda"),
    bad("test", "MPSAccelerator", "--trainer.accelerator=mps"),
    bad("test", "torch_xla", "--trainer.accelerator=tpu"),
    bad("test", "accelerator='hpu'", "--trainer.accelerator=hpu"),
    bad("fit", "accelerator='quantum'", "--trainer.accelerator=quantum"),
    *(bad("test", "devices", f"--trainer.devices={some}") for some in ("0", "-1", "-7", "[5]", "x", "1.5")),
    *(
        bad("fit", says, f"--trainer.strategy={name}")
        for name, says in {
            "deepspeed": "you must have DeepSpeed installed",
            "deepspeed_stage_2": "you must have DeepSpeed installed",
            "fsdp": "requires a GPU accelerator",
            "nonsense": "strategy='nonsense'",
            "xla": "torch_xla",
        }.items()
    ),
    *(bad("test", "precision", f"--trainer.precision={some}") for some in ("8", "bf", "nf4", "float32")),
    bad("fit", "transformer_engine", "--trainer.precision=transformer-engine"),
    bad("fit", "profiler", "--trainer.profiler=nonsense"),
    bad("test", "wandb", "--trainer.logger=WandbLogger"),
    bad("test", "mlflow", "--trainer.logger=MLFlowLogger"),
    bad("test", "comet", "--trainer.logger=CometLogger"),
    bad("test", "NoSuchLogger", "--trainer.logger=NoSuchLogger"),
    bad("fit", "psutil", "--trainer.callbacks+=DeviceStatsMonitor"),
    bad("fit", "LearningRateFinder cannot set the learning rate", "--trainer.callbacks+=LearningRateFinder"),
    bad(
        "fit",
        "give BatchSizeFinder, which doubles it, fewer",
        "--trainer.callbacks+=BatchSizeFinder",
        "--data.batch_size=600",
    ),
    bad("fit", "monitor", "--trainer.callbacks+=EarlyStopping"),
    bad("fit", "NoSuchCallback", "--trainer.callbacks+=NoSuchCallback"),
    bad("fit", "plugins", "--trainer.plugins=nonsense"),
]
PARTS = [
    *(
        bad("fit", says, f"--trainer.callbacks+={callback}", *(f"--trainer.callbacks.{part}" for part in options))
        for callback, options, says in (
            ("Timer", ("duration=soon",), "Timer cannot be made of its arguments: `Timer(duration='soon')` is not"),
            ("Timer", ("duration={weekss: 1}",), "must be days, hours, minutes and seconds, got {'weekss': 1}"),
            ("Timer", ("interval=never",), "Unsupported parameter value `Timer(interval=never)`"),
            ("BackboneFinetuning", (), "called backbone, which ClassificationTask has not: leave it out"),
            ("BackboneFinetuning", ("unfreeze_backbone_at_epoch=-1",), "must be a number, at least 0, got -1"),
            ("BackboneFinetuning", ("lambda_func=nowhere.f",), "No module named 'nowhere'"),
            ("BaseFinetuning", (), "freeze_before_training is left to be defined"),
            ("BatchSizeFinder", ("init_val=0",), "init_val of BatchSizeFinder must be a number, at least 1, got 0"),
            ("BatchSizeFinder", ("max_trials=-1",), "max_trials of BatchSizeFinder must be a number, at least 1"),
            ("BatchSizeFinder", ("steps_per_trial=0",), "steps_per_trial of BatchSizeFinder"),
            ("BatchSizeFinder", ("mode=odd",), "`mode` should be either of"),
            ("LearningRateFinder", ("min_lr=-1",), "min_lr of LearningRateFinder must be a number, at least 0"),
            ("EarlyStopping", ("monitor=val_loss", "patience=-1"), "patience of EarlyStopping must be a number"),
            ("EarlyStopping", ("monitor=val_loss", "mode=x"), "`mode` can be min, max, got x"),
            ("EarlyStopping", ("monitor=val_loss", "min_delta=.nan"), "min_delta must be finite, got nan"),
            ("GradientAccumulationScheduler", ("scheduling={0: 0}",), "should be an int greater than 0"),
            ("GradientAccumulationScheduler", ("scheduling={}",), "Empty dict"),
            ("LearningRateMonitor", ("logging_interval=odd",), "logging_interval"),
            (
                "ModelCheckpoint",
                ("filename={nothing",),
                "is '{nothing', which is no pattern such as {epoch}",
            ),
            ("ModelCheckpoint", ("dirpath=zero\0byte",), "embedded null byte"),
            ("ModelCheckpoint", ("mode=odd",), "`mode` can be min, max but got odd"),
            (
                "OnExceptionCheckpoint",
                ("dirpath=file",),
                "the folder of checkpoints cannot be made or written to, 'file'",
            ),
            ("OnExceptionCheckpoint", ("dirpath=/sys/x",), "the folder of checkpoints cannot be made"),
            ("ModelPruning", ("pruning_fn=odd",), "`pruning_fn` odd isn't available"),
            ("ModelPruning", ("pruning_fn=l1_unstructured", "amount=2.5"), "a part, up to 1, or a whole number of"),
            ("ModelPruning", ("pruning_fn=l1_unstructured", "amount=-1"), "amount of ModelPruning must be a number"),
            ("ModelSummary", ("max_depth=-5",), "max_depth of ModelSummary must be a number, at least -1, got -5"),
            ("RichModelSummary", ("max_depth=-3",), "max_depth of RichModelSummary"),
            ("StochasticWeightAveraging", ("swa_lrs=-1",), "`swa_lrs` should a positive float"),
            ("StochasticWeightAveraging", ("swa_lrs=[0.1,0.1,0.1]",), "swa_lr has 3 values, param_groups has 1"),
            ("StochasticWeightAveraging", ("swa_lrs=0.1", "annealing_epochs=-1"), "annealing_epochs of Stochastic"),
            ("StochasticWeightAveraging", ("swa_lrs=0.1", "device=odd"), "is 'odd', which is not there (Expected one"),
            ("WeightAveraging", ("device=odd",), "device of WeightAveraging is 'odd', which is not there"),
            ("EMAWeightAveraging", ("decay=2",), "decay of EMAWeightAveraging must be a number, from 0 to 1, got 2.0"),
            ("EMAWeightAveraging", ("update_every_n_steps=0",), "update_every_n_steps of EMAWeightAveraging"),
            ("ThroughputMonitor", ("batch_size_fn=builtins.len", "window_size=0"), "window_size of ThroughputMonitor"),
            ("LambdaCallback", ("on_fit_start=nowhere.f",), "No module named 'nowhere'"),
        )
    ),
    *(
        bad("fit", says, f"--trainer.logger={logger}", "--trainer.logger.save_dir=x", f"--trainer.logger.{option}")
        for logger, option, says in (
            (
                "TensorBoardLogger",
                "flush_secs=x",
                "must be a number, at least 0, got 'x'",
            ),
            ("TensorBoardLogger", "max_queue=-1", "max_queue of TensorBoardLogger must be a number, at least 0"),
            ("TensorBoardLogger", "version=-1", "version of TensorBoardLogger must be a number, at least 0, got -1"),
            ("CSVLogger", "flush_logs_every_n_steps=0", "flush_logs_every_n_steps of CSVLogger"),
            ("CSVLogger", "version=-3", "version of CSVLogger must be a number, at least 0, got -3"),
        )
    ),
    bad("fit", "a DummyLogger, which has no folder", "--trainer.logger=lightning.pytorch.loggers.logger.DummyLogger"),
    *(
        bad(command, says, f"--trainer.profiler={profiler}", *(f"--trainer.profiler.{part}" for part in options))
        for command, profiler, options, says in (
            ("fit", "SimpleProfiler", ("dirpath=file", "filename=p"), "the folder of the profile cannot be made"),
            ("fit", "SimpleProfiler", ("dirpath=/sys/x", "filename=p"), "the folder of the profile cannot be made"),
            ("fit", "SimpleProfiler", ("dirpath=.", f"filename={LONG}"), "file name too long"),
            ("fit", "SimpleProfiler", ("dirpath=new", "filename=zero\0byte"), "embedded null byte"),
            ("fit", "SimpleProfiler", ("dirpath=zero\0byte", "filename=p"), "embedded null byte"),
            ("test", "SimpleProfiler", ("dirpath=file", "filename=p"), "the folder of the profile cannot be made"),
            ("fit", "AdvancedProfiler", ("dirpath=file", "filename=p"), "the folder of the profile cannot be made"),
            ("fit", "AdvancedProfiler", ("line_count_restriction=-1",), "line_count_restriction of AdvancedProfiler"),
            ("fit", "PyTorchProfiler", ("dirpath=/sys/x", "filename=p"), "the folder of the profile cannot be made"),
            ("fit", "PyTorchProfiler", ("row_limit=-7",), "row_limit of PyTorchProfiler must be a number, at least -1"),
            ("fit", "PyTorchProfiler", ("sort_by_key=odd",), "sort_by_key"),
        )
    ),
    *(bad("fit", f"'{name}', which cannot be asked for", f"--trainer.strategy={name}") for name in NOT_BY_NAME),
    bad("fit", "strategy='single_hpu'", "--trainer.strategy=single_hpu"),
    *(
        bad("fit", says, f"--trainer.strategy=lightning.pytorch.strategies.{name}", f"--trainer.strategy.{option}")
        for name, option, says in (
            (
                "DDPStrategy",
                "process_group_backend=odd",
                "is 'odd', which this torch has not",
            ),
            ("DDPStrategy", "start_method=odd", "start_method"),
            ("SingleDeviceStrategy", "device=odd", "device of SingleDeviceStrategy is 'odd', which is not there"),
        )
    ),
    bad("fit", "this is no job of SLURM", "--trainer.plugins=SLURMEnvironment"),
    bad("fit", "LSB_DJOB_RANKFILE", "--trainer.plugins=lightning.pytorch.plugins.environments.LSFEnvironment"),
    bad("fit", "torch_xla", "--trainer.plugins=lightning.pytorch.plugins.io.XLACheckpointIO"),
    bad("fit", "trainer.devices must be at most", "--trainer.devices=1000000"),
    bad("fit", "days, hours, minutes and seconds, got {'secs': 1}", "--trainer.max_time={secs: 1}"),
]
NUMBERS = [
    *(
        bad("fit", says, f"--trainer.{option}")
        for option, says in {
            "max_epochs=-5": "max_epochs",
            "max_epochs=many": "max_epochs",
            "max_steps=-7": "max_steps",
            "max_time=soon": "soon",
            "limit_train_batches=-1": "limit_train_batches",
            "limit_val_batches=1.5": "limit_val_batches",
            "limit_test_batches=x": "limit_test_batches",
            "val_check_interval=1000": "val_check_interval",
            "val_check_interval=-1": "val_check_interval",
            "check_val_every_n_epoch=0": "check_val_every_n_epoch must be at least 1, got 0",
            "check_val_every_n_epoch=-1": "check_val_every_n_epoch must be at least 1, got -1",
            "log_every_n_steps=-1": "log_every_n_steps must be at least 0",
            "accumulate_grad_batches=0": "accumulate_grad_batches must be at least 1",
            "accumulate_grad_batches=-3": "accumulate_grad_batches must be at least 1",
            "gradient_clip_val=x": "gradient_clip_val",
            "gradient_clip_val=-1": "gradient_clip_val must be at least 0, got -1",
            "min_epochs=-1": "min_epochs must be at least 0, got -1",
            "min_steps=-1": "min_steps must be at least 0, got -1",
            "num_sanity_val_steps=-2": "num_sanity_val_steps must be at least -1, got -2",
            "gradient_clip_algorithm=foo": "foo",
            "overfit_batches=2.5": "overfit_batches",
            "deterministic=perhaps": "deterministic",
            "detect_anomaly=x": "detect_anomaly",
            "reload_dataloaders_every_n_epochs=-1": "reload_dataloaders_every_n_epochs",
            "no_such_option=1": "no_such_option",
            "num_nodes=0": "num_nodes",
        }.items()
    ),
    *(
        bad("test", says, f"--seed_everything={some}")
        for some, says in {"-1": "-1", "99999999999999": "999", "x": "seed"}.items()
    ),
    *(
        bad("test", says, f"--data.{option}")
        for option, says in {
            "batch_size=0": "batch_size",
            "batch_size=-1": "batch_size",
            "batch_size=x": "batch_size",
            "num_workers=-1": "num_workers",
            "seed=-1": "seed",
            "validation_fraction=1": "validation_fraction",
            "validation_fraction=-0.1": "validation_fraction",
            "train_limit=0": "train_limit",
            "augmentation=nonsense": "augmentation",
            "no_such=1": "no_such",
        }.items()
    ),
    *(
        bad("test", says, f"--evaluation.{option}")
        for option, says in {
            "num_edits=-1": "num_edits",
            "num_edits=1000": "num_edits",
            "num_edits=x": "num_edits",
            "image_stride=0": "image_stride",
            "editable_layers=[layr3] --evaluation.num_edits=2": "near names are layer3",
            "editable_layers=[] --evaluation.num_edits=2": "no layer to edit was given",
            "editor.max_steps=-1": "max_steps",
            "editor.max_steps=x": "max_steps",
            "editor.rule.learning_rate=-1": "learning_rate must be positive, got -1",
            "editor.rule=NoSuchRule": "NoSuchRule",
            "editor=NoSuchEditor": "NoSuchEditor",
            "scoring.precision=float8": "float8",
            "scoring.batch_size=0": "batch_size",
            "sampling.half_width=2": "half_width",
            "sampling.forward_passes=0": "forward_passes",
            "features_folder=nowhere": "nowhere",
            "edited_views=-1": "edited_views",
            "generality_views=-1": "generality_views",
        }.items()
    ),
]
FILES = [
    *(
        bad(command, says, f"--ckpt_path={word}")
        for command in ("test", "fit", "edit --edit.images=0")
        for word, says in {
            "last": "there is no last checkpoint in 'runs/digits/baseline/version_0/checkpoints'",
            "best": "ckpt_path is 'best'",
            "hpc": "there is no checkpoint of a scheduler in '",
            "registry:model": "needs the package litmodels",
        }.items()
    ),
    bad("test", "there is no checkpoint at ''", "--ckpt_path="),
    bad("test", "s3fs", "--ckpt_path=s3://bucket/last.ckpt"),
    *(
        bad("test", says, f"--ckpt_path={path}")
        for path, says in {
            "nowhere.ckpt": "there is no checkpoint at 'nowhere.ckpt'",
            ".": "there is no checkpoint at '.'",
            "file": "cannot read 'file'",
            "empty.ckpt": "cannot read 'empty.ckpt'",
            "half.ckpt": "cannot read 'half.ckpt'",
            "code.ckpt": "code.ckpt",
            "weights.pt": "is no checkpoint of a Lightning run",
            "wide.ckpt": "of another shape",
            "classes.ckpt": "class 0 is 'one' there and '0' in the data",
            "fewer_classes.ckpt": "made for 9 classes and the data have 10, the first more is class 9, '9'",
            "damaged_classes.ckpt": "its class names are no list of names",
        }.items()
    ),
    bad("fit", "class 0 is 'one' there and '0' in the data", "--ckpt_path=classes.ckpt"),
    *(
        bad("test", says, f"--model.weights={path}")
        for path, says in {
            "nowhere.safetensors": "there is no weights file",
            "file": "cannot read weights from 'file'",
            "empty.safetensors": "empty.safetensors",
            "wide.safetensors": "do not fit",
            "nan.safetensors": "NaN or infinite",
            "empty.pt": "empty.pt",
        }.items()
    ),
    *(
        bad(command, says, f"--patches={path}")
        for command in ("test", "predict")
        for path, says in {
            "nowhere.safetensors": "there is no edit patch at 'nowhere.safetensors'",
            "empty.safetensors": "no complete safetensors file",
            "nan.safetensors": "is no edit patch",
            "foreign_patch.safetensors": "was made for other weights",
        }.items()
    ),
    bad("test", "class 0 is 'a' there and '0' in the data", "--patches=patch.safetensors", "--ckpt_path=whole.ckpt"),
    bad("test", "nowhere.yaml", "--config=nowhere.yaml"),
    bad("test", "is not a file", "--config=."),
    bad("test", "parsing config", "--config=broken.yaml"),
    bad("test", "no_such_section", "--config=unknown.yaml"),
    bad("test", "NoSuchTask", "--model=NoSuchTask"),
    bad("test", "NoSuchData", "--data=NoSuchData"),
    bad("test", "NoSuch", "--model.network.class_path=torch.nn.NoSuch"),
    bad("test", "data have 10 classes, but the network has 7", "--model.network.num_classes=7"),
    bad(
        "edit",
        "data have 10 classes, but the network has 7: make the network with num_classes=10",
        "--edit.images=3",
        "--edit.labels=9",
        "--model.network.num_classes=7",
    ),
    bad("test", "no_module", "--model.network.class_path=no_module.Network"),
]
EDITS = [
    bad("edit", "images"),
    bad("edit", "there is no test image 1000", "--edit.images=1000"),
    bad("edit", "-1", "--edit.images=-1"),
    bad("edit", "there is no image at 'nowhere.png'", "--edit.images=nowhere.png", "--edit.labels=1"),
    bad("edit", "empty.png", "--edit.images=empty.png", "--edit.labels=1"),
    bad("edit", "'.'", "--edit.images=.", "--edit.labels=1"),
    bad("edit", "'cat' is none of the 10 classes", "--edit.images=0", "--edit.labels=cat"),
    bad("edit", "labels", "--edit.images=[0,1]", "--edit.labels=[1]"),
    bad("edit", "label", "--edit.images=own.png"),
    bad("edit", "at least one image", "--edit.images=[]"),
    bad("edit", "max_drawdown", "--edit.images=0", "--edit.max_drawdown=x"),
    *(
        bad("search", says, f"--search.{option}")
        for option, says in {
            "lowest=0": "lowest",
            "lowest=-1": "lowest",
            "lowest=10 --search.highest=1": "lowest",
            "per_decade=0": "per_decade",
            "num_edits=0": "num_edits",
            "min_success=2": "min_success",
            "split=train": "split",
            "seed=-1": "seed",
            "half_width=-1": "half_width",
            "resume=nowhere": "there is no search in 'nowhere'",
            "resume=half_search": "is not what a search has left",
            "resume=odd_search": "is not what a search has left",
            "resume=file": "there is no search in 'file'",
        }.items()
    ),
    *(
        bad("stream", says, f"--stream.{option}")
        for option, says in {
            "num_edits=0": "num_edits must be at least 1, got 0",
            "num_edits=x": "num_edits",
            "num_edits=1000": "stream.num_edits is 1000, but ",
            "seed=-1": "seed must be at least 0, got -1",
            "halves=thirds": "halves",
            "protocol=all": "protocol",
            "references=val": "references",
            "edits=NoSuchEdits": "NoSuchEdits",
            "resume=nowhere": "stream.resume: there is no unfinished stream in 'nowhere'",
            "resume=file": "stream.resume: there is no unfinished stream in 'file'",
            "resume=half_stream": "is not what a stream has left",
            "edits=TableEdits": "table",
        }.items()
    ),
    *(
        bad(command, says, f"--{place}.edits=TableEdits", f"--{place}.edits.table={table}")
        for command, place in (("stream", "stream"), ("test --evaluation.num_edits=2", "evaluation"))
        for table, says in {
            "nowhere.csv": "there is no table of edits at 'nowhere.csv'",
            ".": "is a folder, but must be a file",
            "own.png": "'own.png' is no text in UTF-8",
            "empty.pt": "the table 'empty.pt' has no edits",
            "file": "'file' has no column 'image' in its first line",
            "contradicting.csv": "line 3 of 'contradicting.csv' asks for '7' of the image '000004'",
            "no_class.csv": "line 2 of 'no_class.csv' has the label 'cat', which is none of the 10 classes",
            "no_image.csv": "line 2 of 'no_image.csv' has the image '359', which is none of the 359 images",
        }.items()
    ),
    bad("stream", "changes one linear layer", "--evaluation.editor=MinimalHarmEditor"),
    bad("stream", "no parameter of CifarResNet matches 'layer9'", "--evaluation.editable_layers=[layer9]"),
    bad("fly", "fly"),
    bad("test", "no_such", "--no_such=1"),
    bad("compare", "required"),
    bad("compare", "name=folder", "runs/done/version_0"),
    bad("compare", "is no log folder of a run", "a=nowhere"),
    bad("compare", "cannot be read (Not a directory)", "a=file"),
    bad("compare", "two runs to compare are called 'a'", "a=runs/done/version_0", "a=runs/done/version_0"),
    bad("compare", "no edits, or figures that are no numbers", "a=runs/done/version_0"),
    bad("compare", "as .png", "a=runs/done/version_0", "--output=a.pdf"),
    bad("compare", "'own.png' is there already", "a=runs/done/version_0", "--output=own.png"),
]
LATE = [
    bad("fit", says, f"--trainer.callbacks+={callback}", f"--trainer.callbacks.{option}")
    for callback, option, says in (
        ("ModelCheckpoint", f"filename={LONG}", "file name too long"),
        ("ModelCheckpoint", "monitor=nothing", "nothing"),
        ("EarlyStopping", "monitor=nothing", "nothing"),
    )
]
"""What is known after the first epoch alone: what the run has logged until then stays."""
TABLE = [*PLACES, *DEVICES, *PARTS, *NUMBERS, *FILES, *EDITS]


def small_network(width: int = 4, num_classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(num_classes=num_classes, width=width, layers=(1, 1, 1, 1), in_channels=1)


def checkpoint(network: nn.Module, path: str, **entries: object) -> None:
    """Save a task's checkpoint as a run does, with some entries changed."""
    task, data = ClassificationTask(network), DigitsDataModule()
    data.setup("test")
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    torch.save({**torch.load(path, weights_only=False), **entries}, path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what somebody may have lying about."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("file").write_text("somebody's")
        Path("loop").symlink_to("loop")
        for name in ("empty.ckpt", "empty.safetensors", "empty.pt", "empty.png"):
            Path(name).touch()
        for name, files in {
            "taken": {"config.yaml": ""},
            "done": {"metrics.json": "{}", "edits.csv": "drawdown\n"},
        }.items():
            Path("runs", name, "version_0").mkdir(parents=True)
            for file, text in files.items():
                Path("runs", name, "version_0", file).write_text(text)
        figures = {"test_error": "x", "drawdown": 0.1, "success_rate": 1, "num_steps": 2}
        Path("runs/done/version_0/metrics.json").write_text(json.dumps(figures))
        network = small_network()
        checkpoint(network, "whole.ckpt", classes=[str(digit) for digit in range(10)])
        Path("half.ckpt").write_bytes(Path("whole.ckpt").read_bytes()[:1000])
        checkpoint(network, "classes.ckpt", classes=["one", *map(str, range(1, 10))])
        checkpoint(network, "fewer_classes.ckpt", classes=[str(digit) for digit in range(9)])
        checkpoint(network, "damaged_classes.ckpt", classes="0123456789")
        checkpoint(small_network(8), "wide.ckpt")
        torch.save({"state_dict": {}, "callback": print}, "code.ckpt")
        torch.save(network.state_dict(), "weights.pt")
        save_file(small_network(8).state_dict(), "wide.safetensors")
        state = network.state_dict()
        save_file({**state, "fc.bias": state["fc.bias"] * float("nan")}, "nan.safetensors")
        record = EditRecord(classes=list("abcdefghij"))
        EditPatch.of(network, {"fc.bias": torch.ones(10)}, record).save("patch.safetensors")
        EditPatch.of(nn.Linear(2, 2), {"bias": torch.ones(2)}).save("foreign_patch.safetensors")
        Path("broken.yaml").write_text("model: [1, 2\nx: {")
        Path("unknown.yaml").write_text("no_such_section: 1\n")
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save("own.png")
        Path("half_search").mkdir()
        Path("half_search/search.json").write_text('{"settings": {')
        Path("half_stream").mkdir()
        Path("half_stream/stream.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
        Path("contradicting.csv").write_text("image,label\n4,1\n000004,7\n")
        Path("no_class.csv").write_text("image,label\n4,cat\n")
        Path("no_image.csv").write_text("image,label\n359,1\n")
        Path("odd_search").mkdir()
        row = RateOutcome(1.0, 0.5, 1.0, float("nan"))._asdict()
        Path("odd_search/search.json").write_text(json.dumps({"settings": {}, "outcomes": [row]}))
    return folder


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return what is in a folder, with the bytes of its files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def name_of(one: Bad) -> str:
    return " ".join([one.command, *one.options]).replace(LONG, "x…x").replace("\0", "0")[:90]


def arguments(one: Bad) -> list[str]:
    command, *more = one.command.split(" ")
    options = [*more, *(part for option in one.options for part in re.split(r" (?=--)", option))]
    return [command, *options] if command in ("compare", "fly") else [command, *SMALL, *options]


WITHOUT_A_GPU = [
    (f"--trainer.{option}",)
    for option in ("accelerator=gpu", "accelerator=cuda", "devices=-1", "devices=-7", "devices=[5]", "strategy=fsdp")
]
"""Mistakes where there is none; where there is one, some are right, and Lightning says others in other words."""
NEEDED = {
    "--trainer.logger=WandbLogger": "wandb",
    "--trainer.logger=MLFlowLogger": "mlflow",
    "--trainer.logger=CometLogger": "comet_ml",
    "--trainer.callbacks+=DeviceStatsMonitor": "psutil",
}


@pytest.mark.filterwarnings(TAKES_THE_PLACE, UNSAVED)
@pytest.mark.parametrize("one", TABLE, ids=name_of)
def test_one_sentence_and_nothing_left(
    one: Bad, home: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available() and one.options in WITHOUT_A_GPU:
        pytest.skip("there is a GPU")
    if any(one.options == (option,) and find_spec(package) for option, package in NEEDED.items()):
        pytest.skip("its package is installed")
    monkeypatch.chdir(home)
    before = everything(home)
    with pytest.raises(SystemExit) as ended:
        main(arguments(one))
    shown = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert "Traceback" not in "".join(shown)
    assert shown[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in shown) == 1
    assert one.says in shown[-1]
    assert everything(home) == before
    assert os.getcwd() == str(home)


@pytest.mark.parametrize("one", LATE, ids=name_of)
def test_one_sentence_after_an_epoch(
    one: Bad, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments(one))
    assert ended.value.code == 2
    assert one.says in capsys.readouterr().err.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


NCCL = pytest.mark.no_fake_cuda(reason="processes on GPUs speak by NCCL, which it has not")
SPAWNED = pytest.param("--trainer.strategy=ddp_spawn", marks=[pytest.mark.slow, NCCL])


@pytest.mark.parametrize(
    "option",
    [
        "--trainer.callbacks+=Timer --trainer.callbacks.duration=00:00:10:00",
        "--trainer.callbacks+=Timer --trainer.callbacks.duration={minutes: 10} --trainer.callbacks.interval=epoch",
        "--trainer.callbacks+=ModelSummary --trainer.callbacks.max_depth=-1",
        "--trainer.profiler=SimpleProfiler --trainer.profiler.dirpath=new --trainer.profiler.filename=p",
        SPAWNED,
    ],
)
def test_neighbours_that_can_be_meant_run(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(arguments(bad("fit", "", option)))
    run = Path("runs/digits/baseline/version_0")
    assert (run / "config.yaml").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert not option.startswith("--trainer.profiler") or [*Path("new").glob("fit-p*.txt")]


def test_there_are_many() -> None:
    assert len({(one.command, one.options) for one in TABLE}) == len(TABLE) >= 150
