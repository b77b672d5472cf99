"""Networks by name: backbones and the generator, one a file; what is added to one is the room ``added``.

Start with ``resnet.py``. Nothing here knows how a network is divided.
"""
