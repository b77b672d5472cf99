"""What edits cost: many edits of one network, each judged on many images.

Start with ``evaluator.py``. Features that no edit changes are kept by ``feature_store.py``, edited networks are run by
``scoring.py``, on all images or on the part that ``sampler.py`` draws. Lightning's side of it is
:mod:`editable.callbacks.drawdown_evaluation`.
"""
