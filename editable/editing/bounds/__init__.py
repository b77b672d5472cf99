"""How sure one may be of an edit's harm: upper bounds from counts of images, and a budget that edits are kept within.

``binomial.py`` has the bound of one count, ``candidates.py`` what choosing among several on the same images costs,
``streams.py`` what many edits one after the other cost; start with ``harm_budget.py``, which decides. Counting is not
done here.
"""
