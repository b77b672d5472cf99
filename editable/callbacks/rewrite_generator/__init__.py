"""`rewrite_generator`: a generator is rewritten by a rule in a file, and judged on images that it has not made yet.

Start with ``callback.py``; ``report.py`` is what is printed and drawn. The rewrite itself is
:mod:`editable.rewriting.generators`.
"""

from editable.callbacks.rewrite_generator.callback import GeneratorRewriting

__all__ = ["GeneratorRewriting"]
