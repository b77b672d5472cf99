"""The command ``python train.py patches``: what is in the files of patches, one of several, and one edit dropped.

``command.py`` does what is asked, ``tables.py`` says what is shown, ``again.py`` makes a patch again by its own run.
What a patch is, and how it is merged, is no concern of this room: that is ``editing/patches/``.
"""

from editable.patches_command.command import patches

__all__ = ["patches"]
