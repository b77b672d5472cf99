"""What is a user's mistake or the machine's state is a sentence; a fault of the program stays a traceback."""

import errno
import os
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, StochasticWeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from editable.errors import UserError
from editable.mistakes import users_mistake


def of_lightning() -> None:
    Trainer(accelerator="quantum", logger=False)


def handed_on_to_torch() -> None:
    """What torch refuses of a callback of Lightning's that hands it on."""
    average, network = StochasticWeightAveraging([0.1, 0.1, 0.1], swa_epoch_start=1), nn.Linear(1, 1)
    average._average_model, average._max_epochs = nn.Linear(1, 1), 5
    network.device = torch.device("cpu")
    optimizers = [torch.optim.SGD(network.parameters(), 0.1)]
    average.on_train_epoch_start(SimpleNamespace(optimizers=optimizers, current_epoch=0, max_epochs=5), network)


def refused_by_torch_itself() -> None:
    torch.optim.SGD(nn.Linear(1, 1).parameters(), -1.0)


def abstract() -> None:
    BaseFinetuning().freeze_before_training(nn.Linear(1, 1))


class OursWithAFault(Callback):
    def __init__(self, number: int = 0) -> None:
        raise ValueError("a fault of ours")


def made_from_a_configuration(path: str, **arguments: object) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callbacks", type=list[Callback] | Callback | None)
    some = {"class_path": path, "init_args": arguments}
    parser.instantiate(parser.parse_object({"callbacks": [some]}))


def of_our_own() -> None:
    int("x")


def of_our_own_import() -> None:
    import editable.no_such_room  # noqa: F401


def of_a_package() -> None:
    import no_such_package.inside  # noqa: F401


def wrapped() -> None:
    try:
        raise UserError("the cause")
    except UserError as error:
        raise ValueError("somebody's wrapping") from error


def while_handling() -> None:
    """A fault met while a machine's error is dealt with is a fault."""
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        of_our_own()


def raised(error: BaseException):
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (raised(UserError("one\n  two")), "one two"),
        (raised(MisconfigurationException("m")), "m"),
        (wrapped, "the cause"),
        (raised(OSError(errno.ENOSPC, "x")), "cannot write: no space left on device"),
        (raised(OSError(errno.ENOSPC, "x", "a.pt")), "cannot write 'a.pt': no space left on device"),
        (raised(OSError(errno.EDQUOT, "x", "a.pt")), "cannot write 'a.pt': disk quota exceeded"),
        (raised(OSError(errno.EROFS, "x", b"a.pt")), "cannot use 'a.pt': read-only file system"),
        (raised(PermissionError(errno.EACCES, "x", "a.pt")), "cannot use 'a.pt': permission denied"),
        (raised(OSError(errno.EACCES, "x", "a", None, "b")), "cannot use 'b': permission denied"),
        (raised(IsADirectoryError(errno.EISDIR, "x", "a")), "cannot use 'a': is a directory"),
        (of_a_package, "No module named 'no_such_package', which an option asks for: install the package"),
        (of_lightning, "accelerator='quantum'"),
        (handed_on_to_torch, "swa_lr has 3 values, param_groups has 1"),
        (abstract, "freeze_before_training is left to be defined: name a class that does"),
        (
            partial(made_from_a_configuration, "lightning.pytorch.callbacks.EarlyStopping", monitor="a", mode="x"),
            "lightning.pytorch.callbacks.EarlyStopping cannot be made of its arguments: `mode` can be min, max, got x",
        ),
        (partial(made_from_a_configuration, "tests.test_mistakes.OursWithAFault"), None),
        (refused_by_torch_itself, None),
        (raised(OSError(errno.EACCES, "no place is named")), None),
        (raised(FileNotFoundError(errno.ENOENT, "x", "a")), None),
        (raised(OSError("no number")), None),
        (raised(ValueError("v")), None),
        (raised(AssertionError("a")), None),
        (of_our_own, None),
        (of_our_own_import, None),
        (while_handling, None),
    ],
)
def test_sentences(cause, says: str | None):
    with pytest.raises(BaseException) as error:  # noqa: PT011  each row has its own
        cause()
    found = users_mistake(error.value)
    if says is None:
        assert found is None
    else:
        assert found is not None
        assert says in found
        assert "\n" not in found
