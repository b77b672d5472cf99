"""Editors: whatever maps network, parameters, inputs and asked labels to an ``EditResult``. One editor a file.

Start with ``base.py`` (the contract), then ``editor.py`` (the loop of an update rule); ``objective.py`` says when an
edit has succeeded. What one step does is in :mod:`editable.editing.rules`, what edits cost in
:mod:`editable.editing.evaluation`.
"""
