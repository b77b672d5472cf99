"""Lightning's data modules of labelled images, with their splits, augmentations and training order.

Start with ``image_data_module.py``, which all share, and ``framed_images.py``, for stored images of any size; a file
each for CIFAR-10, digits and image folders, and the room ``collections`` for tables and others' data sets.
Which input is edited to which label is in :mod:`editable.data.edits`; where a concept is in images, in
:mod:`editable.data.concepts`.
"""
