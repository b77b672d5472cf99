"""What edits cost: many edits of one network, each judged on many images.

Start with ``evaluator.py``, and ``outcomes.py``, what it finds. Features that no edit changes are kept by
``feature_store.py``; edited networks are run by ``scoring.py``, on all images or on the part that ``sampler.py`` draws:
``sampling_settings.py`` says how large, ``strata.py`` and ``allocation.py`` which images, ``stratified_estimates.py``
and ``estimate.py`` what it tells of all. Those of which one linear layer has changed by a low rank are one product
together: ``low_rank_scoring.py``. Editors with other learning rates are compared by ``learning_rates.py``.
Lightning's side of it is :mod:`editable.callbacks.drawdown_evaluation`.
"""
