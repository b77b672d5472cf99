"""`rewrite`: a rule is put into a layer; candidates are tried, and one is chosen on validation images.

Start with ``callback.py``; ``trials.py`` has the candidates, ``outcome.py`` what comes out, ``report.py`` what is
printed and drawn of it. What a rewrite shares with `invert` and `see` is in :mod:`editable.callbacks.site`; the
mathematics is in :mod:`editable.rewriting`.
"""

from editable.callbacks.rewrite.callback import RankOneRewrite

__all__ = ["RankOneRewrite"]
