"""The trained network and an edit of it, as the tests of ``edit`` make them."""

from tests.callbacks.edit.conftest import checkpoint_bytes, edited_11, trained

__all__ = ["checkpoint_bytes", "edited_11", "trained"]
