"""The commands: each with the line that ``--help`` says of it, and where it is. A new command is a line here."""

from typing import NamedTuple

__all__ = ["COMMANDS", "Command"]


class Command(NamedTuple):
    """What the first word may be.

    Attributes:
        summary: What it does, in one sentence; of a study, the first of its callback's docstring.
        run: The function ``module:name`` that takes the arguments after the command; none where the command is a method
            of the trainer, run by :class:`~editable.lightning_cli.EditableCLI`.
        options: The function ``module:name`` that makes the parser of ``run``, in a module that imports no torch.
    """

    summary: str
    run: str | None = None
    options: str | None = None


COMMANDS: dict[str, Command] = {
    "fit": Command("Trains a task, such as editable training, and keeps its checkpoints."),
    "validate": Command("Measures a trained network on the validation images."),
    "test": Command("Measures a trained network's error on the test images, and what edits of it cost."),
    "predict": Command("Tells what a trained network takes images for, in a table."),
    "search": Command(
        "Finds the learning rate of an editor: the one of least drawdown among those with enough successes."
    ),
    "edit": Command(
        "Edits the tested network so that images get the labels asked for, and keeps the edit if it costs little."
    ),
    "stream": Command(
        "Corrects many mistakes of a trained network, one after the other or together, and judges them on other images."
    ),
    "rewrite": Command(
        "Rewrites one layer of the tested network so that it takes one concept for another, and tells what that does."
    ),
    "few_shot": Command(
        "Makes rules from a few labelled photographs of a new concept, and tests each on a class that made nothing."
    ),
    "invert": Command(
        "Puts one rule into one layer forwards, backwards and in the Fourier domain, and tells whether it survives."
    ),
    "rewrite_generator": Command(
        "Rewrites one layer of a generator by a rule (Bau et al. 2020), in test, and tells what that does."
    ),
    "judge": Command(
        "Compares a trained network with an edited one: what the edit does to images with and without the new concept."
    ),
    "manipulate": Command("Replaces a concept in all test images that show it, and saves them as an image folder."),
    "see": Command(
        "Shows what a rewrite of one layer has changed, by tracing the layer's values back to what they may come from."
    ),
    "scan": Command(
        "Ranks classes by the harm that the replacement of a concept does to them, and tells what an edit has changed."
    ),
    "new_class": Command(
        "Adds a class to a tested classifier from a few images of it, and judges the grown classifier, in test."
    ),
    "export": Command(
        "Writes the tested network, with its patches, into a file of its own, and checks the file on the test images."
    ),
    "app": Command(
        "Opens a page in the browser on which the tested network is corrected, and corrections are taken back."
    ),
    "compare": Command(
        "Compares evaluated runs: a table and a figure of drawdown, with 95 % intervals, test error, and generality.",
        "editable.comparison:compare",
        "editable.command_line.options.compare:options",
    ),
    "patches": Command(
        "Looks at what edits have left, merges it, and drops any one edit of several.",
        "editable.patches_command:patches",
        "editable.command_line.options.patches:options",
    ),
    "board": Command(
        "Makes every editor's result on every network by every protocol, and the page of them.",
        "editable.board:board",
        "editable.command_line.options.board:options",
    ),
}
"""All commands, in the order in which ``--help`` lists them."""
