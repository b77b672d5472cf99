"""Editable neural networks: train them, edit them, rewrite them, and measure what an edit costs.

The rooms, from the top down: ``cli.py`` says what a command line asks for, ``lightning_cli.py`` and ``trainer.py``
are Lightning's command line and trainer with what editing needs; :mod:`~editable.callbacks` has what runs on trained
networks, :mod:`~editable.tasks` what trains them; :mod:`~editable.editing` and :mod:`~editable.rewriting` are the
mathematics, in plain PyTorch; :mod:`~editable.models`, :mod:`~editable.data` and :mod:`~editable.metrics` are what
these stand on; :mod:`~editable.visualize` and ``tables.py`` show what came out. A name is imported from its room
(``from editable.editing import Editor``); where a file lies inside a room may change. Start with ``python train.py
--help``, or with ``editing/editors/editor.py`` for the idea.
"""
