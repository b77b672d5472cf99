"""What callbacks of every kind ask of the run that they are part of, and what several of them leave behind.

Folder and network of the run (``context.py``), loops over images and edits on several processes (``edit_loop.py``,
``image_shares.py``), the base of every command (``subcommand.py``: start reading there), its outcome in a file
(``outcome_file.py``), images with a concept replaced (``replaced_examples.py``). Nothing here knows a study.
"""
