"""The board: every editor on every network by every protocol, each outcome a JSON file, and the page made of them.

``plan.py`` reads the file that says what is on the board, ``cell.py`` searches an editor's constants and makes the
run that is reported, ``training.py`` trains networks whose weights are not there, ``run.py`` is one run of the command
line, ``result.py`` what is kept of them, ``page.py`` the page and its figure, ``trade.py`` another page, of what
training for edits costs, ``command.py`` the command ``python train.py board``. What is measured in a run is no concern
of this room: that is :mod:`editable.callbacks`.
"""

from editable.board.command import board
from editable.board.page import write_page
from editable.board.plan import Board, Cell
from editable.board.result import Figures, Result

__all__ = ["Board", "Cell", "Figures", "Result", "board", "write_page"]
