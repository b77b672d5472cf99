"""Where a concept is in images, as people say it: masks, outlines, textures, and rules made of them.

Start with ``rewrite_rule.py`` for a rule, ``masks.py`` for reading masks. Finding a concept by a network is in
:mod:`editable.rewriting.concepts`.
"""
