"""Ways to solve a rewrite problem: by formula, by descent in a low-rank space, and the baselines. One way a file.

Start with ``base.py`` (the contract) and ``closed_form.py``; ``selection.py`` chooses among solutions.
"""
