"""``app``: a page in the browser on which the owner of a trained network corrects it, and takes corrections back.

``callback.py`` has the options, and what is done before the page opens. Behind it, from the network to the browser:
``bench.py`` makes corrections of a network of its own and says what they cost, ``concept.py`` is the layer that looks
at parts of images, ``sight.py`` a network that visitors look through, ``ledger.py`` keeps corrections and their
switches in files, ``album.py`` has the images that can be seen, ``desk.py`` lets one correction be made at a time while
others look on, ``answers.py`` says it as JSON, ``guard.py`` decides who may ask, ``server.py`` speaks HTTP, and
``page/`` is what the browser shows. How a correction is made and judged is no concern of this room: that is
:mod:`editable.calls`. Start with ``desk.py``.
"""

from editable.app.callback import App

__all__ = ["App"]
