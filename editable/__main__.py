"""``python -m editable``: the same as ``editable`` and ``python train.py``."""

from editable.cli import main

if __name__ == "__main__":
    main()
