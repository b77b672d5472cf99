"""Data as people have them: a table of image files, any data set of torch, data sets of Hugging Face, and WebDatasets.

A file for each. All images come by the one reader (:mod:`editable.data.images`) and become what
:class:`~editable.data.modules.framed_images.FramedImageDataModule` hands to a network; ``labels.py`` says which label a
name or number stands for. Folders of images are one room up.
"""
