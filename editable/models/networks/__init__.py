"""Networks by name: backbones, the generator, and layers that are added to a network to be edited. One a file.

Start with ``resnet.py``, or ``extra_layer.py`` for what is added. Nothing here knows how a network is divided.
"""
