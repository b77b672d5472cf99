"""What an edit leaves: a patch that is kept in a file, put into the network that it was made for, and taken out again.

Start with ``patch.py``.
"""
