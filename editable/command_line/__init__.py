"""What is typed after ``editable`` or ``python train.py``: which commands there are, how options are read.

``table.py`` lists the commands, ``first_word.py`` answers what needs none of them, by ``known_options.py`` a misspelt
option of a run of the trainer too; ``options`` has those of the commands that are no such run: none of this imports
torch, so that a question is answered at once. ``parser.py``, ``help.py``, ``suggestions.py``, ``one_value.py``,
``keywords.py`` and ``class_changes.py`` are what our parsers do otherwise than jsonargparse's, ``shipped.py`` finds the
files that come with the package, ``progress.py`` shows how far a loop is. What a command does is no concern of this
room: see :mod:`editable.running` and :mod:`editable.lightning_cli`. Start with ``table.py``.
"""
