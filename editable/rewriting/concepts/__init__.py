"""Where images show a concept, as masks, outlines, networks or context matching tell; and another concept in its place.

Start with ``concept_finder.py`` (the contract), then ``concept_replacement.py``. One way to find a file.
"""
