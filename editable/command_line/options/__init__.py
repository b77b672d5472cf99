"""The options of commands that are no runs of the trainer, a file for each, named as the command.

Nothing here imports torch, so that help and a misspelt option are answered at once; what a command does is in a room of
its own. The table of commands names these files.
"""
