"""What is looked at before a run begins, so that what cannot be meant ends in a sentence and leaves nothing behind.

Here live the checkpoint that a run starts from (``checkpoint.py``), the folder that it writes into (``folder.py``), and
what the trainer (``requests.py``) and its parts (``parts.py``) were asked for. What a task, a data module or a study
asks for is looked at in its own room.
"""
