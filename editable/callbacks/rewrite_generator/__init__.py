"""`rewrite_generator`: a generator is rewritten by a rule in a file, and judged on images that it has not made yet.

Start with ``callback.py``; ``outcome.py`` is what comes out, ``report.py`` what is printed and drawn of it, and
``of_rewrite.py`` makes the one of a rewrite without Lightning. The rewrite itself is
:mod:`editable.rewriting.generators`.
"""

from editable.callbacks.rewrite_generator.callback import GeneratorRewriting
from editable.callbacks.rewrite_generator.of_rewrite import generator_metrics, write_generator_report
from editable.callbacks.rewrite_generator.outcome import GeneratorRewriteOutcome

__all__ = ["GeneratorRewriteOutcome", "GeneratorRewriting", "generator_metrics", "write_generator_report"]
