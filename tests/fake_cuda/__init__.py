"""A CUDA device for machines that have none: its memory is the host's, its kernels are the processor's.

A torch that was built with CUDA is made to believe in one device ``cuda:0``. What a program does with devices then goes
as on a card: tensors of two devices do not mix, a generator of one does not draw on the other, ``.numpy()`` and a
forked process that goes on using the device are refused, ``is_cuda`` is true, Lightning takes its CUDA accelerator and
pinned loaders, and out of memory is raised at a limit (``limit_memory``). What makes the host wait is counted by the
line that does it, and kernels are counted.

    pytest --fake-cuda tests/editing                       # trainers that ask for the CPU get the device
    python -m tests.fake_cuda train.py test --config …     # one program
    python -m tests.fake_cuda --waits 2 train.py test …    # … and what it waited for, by its two innermost lines

What it does not have: a second device, NCCL, streams that overlap, ``torch.compile`` for the device, sparse and
quantised tensors, and the numbers of a card (no TF32, no choice of algorithms, attention by matrix products alone).
Its speed says nothing; counts of waits, copies and kernels do.

``device.cpp`` is the device; ``building.py`` compiles it on first use (a minute) into the user's cache; ``device.py``
puts it in the place of CUDA when torch is imported; ``graphs.py`` records graphs; ``counting.py`` counts; ``start/``
gives it to child processes. It rests on internals of torch, so it is tried with one version (``TRIED_WITH``) and
refuses others in a sentence. Start reading at ``any_kernel`` in ``device.cpp``.
"""
