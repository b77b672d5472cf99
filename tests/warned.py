"""What tests may be told besides what they look at: filters for ``pytest.mark.filterwarnings``, by the sentence.

And what they look at: what some lines warn of, without what the garbage collector says of other tests meanwhile.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ARRAY_WRAP = "ignore:__array_wrap__ must accept context:DeprecationWarning"  # matplotlib with numpy 2
AVERAGING = "ignore:You're using the WeightAveraging callback, but loading a checkpoint outside the 'fit' stage"
BEING_TAKEN = "ignore:.* is taken for the logits"
CHANNELS_LAST = "ignore:the network stays contiguous in place of channels_last"
FEW_KEYS = "ignore:.* are fewer than the .* entries of a key, so that C is singular"
JIT = "ignore:`torch.jit"
MOMENT_ANEW = "ignore:.*(not used, but computed anew|no complete safetensors file|second moment cannot be kept)"
NOT_KEPT = "ignore:trainer.* are not kept; give trainer.default_root_dir"
NO_FONT = "ignore:no font of this machine has"
NO_LPIPS = "ignore:the weights of LPIPS with .* cannot be had"
ONE_AT_A_TIME = "ignore:edits are made one at a time, which is slower"
QUANTISATION = "ignore:torch.(ao.quantization|quantize_per_tensor)"
TAKEN_BACK = "ignore:a correction has left weights that are NaN or infinite, and was taken back"
TAKES_THE_PLACE = "ignore:.* takes the place of .*, whose arguments go with it"
TIED = "ignore:the weight of .* a rewrite changes both"
TORN_LINES = "ignore:.* torn lines, which are passed over"
UNSAVED = "ignore:\\s*Unable to serialize instance"  # jsonargparse, of a default that is no text
UNTRACED = "ignore:.* cannot be traced by torch.fx"
WIDE_MEMORY = "ignore:the memory's matrix .* has more rows than columns"


@contextmanager
def whatever_is_warned() -> Iterator[list[warnings.WarningMessage]]:
    """Record each warning, as often as it comes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)
        yield caught


@contextmanager
def one_warning(match: str) -> Iterator[list[warnings.WarningMessage]]:
    """Expect one warning, and no other."""
    with whatever_is_warned() as caught:
        yield caught
    assert len(caught) == 1, [str(some.message) for some in caught]
    assert re.search(match, str(caught[0].message)), caught[0].message


@contextmanager
def no_warning() -> Iterator[None]:
    """Make each warning an error, also those that the test's own filters let pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        yield
