"""Lightning's data modules of labelled images, with their splits, augmentations and training order.

Start with ``image_data_module.py``, which all share; a file each for CIFAR-10, digits and image folders.
Which input is edited to which label is in :mod:`editable.data.edits`; where a concept is in images, in
:mod:`editable.data.concepts`.
"""
