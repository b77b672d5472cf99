"""`rewrite`: a rule is put into a layer; candidates are tried, and one is chosen on images that are not reported.

Start with ``callback.py``. What is tried is in ``candidates.py``, on which images in ``image_sets.py``, how in
``workbench.py``; ``trials.py`` has what each comes to and the choice among them, ``resuming.py`` keeps them for a run
that goes on. ``outcome.py`` is what comes out, with the images of ``shown.py`` that figures show, ``report.py`` what is
printed and drawn of it, ``routes.py`` the comparison of routes and solvers. What a rewrite shares with `invert` and
`see` is in :mod:`editable.callbacks.site`; the mathematics is in :mod:`editable.rewriting`.
"""

from editable.callbacks.rewrite.callback import RankOneRewrite
from editable.callbacks.rewrite.outcome import RewriteOutcome

__all__ = ["RankOneRewrite", "RewriteOutcome"]
