"""Rewriting: a layer is an associative memory, and a low-rank update inserts what it recalls for a key."""
