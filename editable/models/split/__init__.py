"""A network divided at its first editable parameter, and the two forms that its second half is rewritten into.

Start with ``split_network.py``: ``prefix`` and ``suffix``. ``tracing.py`` makes the graph, ``edit_form.py`` the form
for gradients, ``scoring_form.py`` the form for many images, with what each rests on beside it. ``linear_tail.py`` is
the case of one editable layer with nothing but linear ones behind it.
"""
