"""What depends on the machine that a network runs on: where its tensors lie, in which precision, layout and library.

``precision.py`` and ``product.py`` ask the processor; ``winograd.py`` and ``unfolded.py`` are convolutions by other
ways than torch's, for processors that are faster so; ``devices.py`` and ``graphs.py`` are for GPUs;
``full_precision.py`` and ``memory_format.py`` keep results right where a machine has its own ideas. What is computed is
said elsewhere.
"""
