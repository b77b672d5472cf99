"""A layer made ready to be rewritten by a rule, as `rewrite`, `invert`, `see` and the whitened extra layer need it.

Start with ``site.py``. The second moment's options are in ``moment.py``, a rule's exemplars as the network takes them
in ``rule_images.py``, the images that a study looks at in ``sets.py``, what rewritten networks predict of them in
``predictions.py``, and the errors that are counted there in ``set_errors.py``. How a layer is a memory, and how a rule
is solved, is plain PyTorch and lives in :mod:`editable.rewriting`.
"""
