"""The entry point: ``python train.py`` alone for the default run, ``python train.py --help`` for all the others."""

from editable.cli import main

if __name__ == "__main__":
    main()
