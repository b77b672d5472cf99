"""What is added to a network that is there: an extra layer, a codebook, neurons, new classes.

Each is put in by a function, such as ``add_extra_layer``, which leaves what the network computes as it is. Start with
``extra_layer.py``; ``classifier.py`` finds where, ``tapping.py`` reads layers on the way.
"""
