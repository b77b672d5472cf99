"""The suffix in the form that scores many images: BatchNorm folded, memory laid out for speed, low precision."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from editable.errors import UserError, require_at_least, require_not_negative
from editable.models.machine.graphs import Graphs
from editable.models.machine.precision import fastest_scoring, processor
from editable.models.split.convolutions import count_uses, use_unfolded, use_winograd
from editable.models.split.edit_form import allow_any_layout, has_hooks
from editable.models.split.modes import attention_for
from editable.models.split.replayed import ReplayedRun
from editable.models.split.split_network import Features, SplitNetwork

__all__ = ["ScoringForm", "ScoringSettings", "Weights"]

Weights: TypeAlias = dict[str, Tensor]
"""Weights of a `ScoringForm` that an edit has changed, by their place in it."""

# What an activation of a batch may take: larger ones leave the caches, smaller ones leave products too narrow.
ACTIVATION_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ScoringSettings:
    """How edited networks are run on many images; `for_device` gives the measured defaults.

    Attributes:
        precision: Of weights and activations: ``full``, the network's own, or ``bfloat16``; ``auto`` is what is fastest
            on this processor, by a measured table (:mod:`editable.models.machine.precision`).
        fold_batch_norm: Multiply BatchNorm into the convolution before it, once per edited network.
        channels_last: Lay images out with their channels last; in bfloat16 on a CPU with AMX also convolve small images
            of many channels, such as in layer4 of a ResNet-18 for 32×32 ones, as one product of patches and kernel.
        winograd: On a CPU, do 3×3 convolutions of stride 1 by Winograd's algorithm, which in float32 is faster than the
            direct sum, and has ten times its rounding error. Elsewhere the library chooses.
        simplify: Multiply a linear layer into the one behind it where that leaves fewer operations, once per edited
            network, and on a CPU compute ELU by ``exp``, four times as fast as by ``expm1``, and off by up to 1e-7 in
            float32. As with Winograd's algorithm, only rounding changes. Edits of one linear layer behind which all is
            linear are then scored as one product, on CUDA in this precision: see `LinearTail`.
        compile: Run through ``torch.compile``; on a GPU with CUDA graphs. Compiling takes up to a minute.
        graphs: On a GPU, record full batches through edited networks, and in an evaluation each step of the edits, as
            CUDA graphs, which start by one call: ``auto`` does so where it is possible, ``never`` does not.
        recheck: With ``bfloat16``, score an image again in full precision where the true label's logit is nearer to
            the largest other one than this many times the largest error that bfloat16 makes in this difference on
            the unedited network; 0 never does.
        batch_size: Number of images run at once; by default as many as keep every activation within 16 MiB: 128 from
            layer3 of a ResNet-18 for 32×32 images, 1024 where features are vectors and an extra layer has 4096 values.
        edits_together: Number of edited networks run at once by ``torch.func.vmap``; costs time on a CPU.

    Raises:
        UserError: If a setting is out of its range.
    """

    precision: Literal["full", "bfloat16", "auto"] = "full"
    fold_batch_norm: bool = True
    channels_last: bool = True
    winograd: bool = True
    simplify: bool = True
    compile: bool = False
    graphs: Literal["auto", "never"] = "auto"
    recheck: float = 2.0
    batch_size: int | None = None
    edits_together: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least(1, batch_size=self.batch_size, edits_together=self.edits_together)
        require_not_negative(recheck=self.recheck)
        if self.precision not in ("full", "bfloat16", "auto"):
            raise UserError(f"precision must be 'full', 'bfloat16' or 'auto', got {self.precision!r}")
        if self.graphs not in ("auto", "never"):
            raise UserError(f"graphs must be 'auto' or 'never', got {self.graphs!r}")

    def graphs_on(self, device: torch.device) -> Graphs:
        """Return what records graphs on a device, or by these settings does not."""
        return Graphs(device, wanted=self.graphs == "auto")

    @classmethod
    def for_device(cls, device: torch.device) -> "ScoringSettings":
        """Return the settings that are used where none are given: full precision, and what is fastest on a CPU.

        For other devices nothing was measured: they get larger batches.
        """
        return cls() if device.type == "cpu" else cls(batch_size=512)

    def on(self, device: torch.device | str) -> "ScoringSettings":
        """Return these settings with the precision that ``auto`` stands for on a device."""
        return replace(self, precision=fastest_scoring(device)) if self.precision == "auto" else self

    def in_full_precision(self) -> "ScoringSettings":
        """Return these settings with full precision."""
        return replace(self, precision="full")

    @classmethod
    def plain(cls, batch_size: int | None = None) -> "ScoringSettings":
        """Return the settings that change nothing: the suffix as it is, the reference for all others."""
        return cls(fold_batch_norm=False, channels_last=False, winograd=False, simplify=False, batch_size=batch_size)


class ScoringForm:
    """A suffix rewritten for many images and many sets of edited parameters, without gradients.

    ``form(features, form.prepare(params))`` equals ``split.suffix(features, params)`` up to rounding. What an edit
    does not touch is prepared once, here: a later change of the network's weights is not seen.

    Args:
        split: The network, split at its first editable parameter.
        features: Features of a few images, whose shapes decide where Winograd's algorithm fits.
        settings: What to rewrite.
        graphs: Where full batches are recorded; by default where the settings say.

    Attributes:
        settings: As given.
        batch_size: Number of images that are best run at once.
    """

    def __init__(
        self, split: SplitNetwork, features: Features, settings: ScoringSettings, graphs: Graphs | None = None
    ) -> None:
        self.settings = settings = settings.on(features[0].device)
        self._split = split
        self._dtype = torch.bfloat16 if settings.precision == "bfloat16" else next(iter(split.params.values())).dtype
        self._module, self._names = split.copy_suffix()
        rewritable = isinstance(self._module, fx.GraphModule)
        self._memory_format = torch.channels_last if settings.channels_last and rewritable else torch.contiguous_format
        self._values = {place: param.detach() for place, param in self._module.named_parameters(remove_duplicate=False)}
        self._recipes = [_Recipe((place,), _keep) for place in self._values]
        self._transforms: dict[str, Callable[[Tensor], Tensor]] = {}
        widest = max((feature[:1].numel() for feature in features), default=1)
        if isinstance(self._module, fx.GraphModule):
            allow_any_layout(self._module.graph)
            if settings.fold_batch_norm:
                self._fold_batch_norm(self._module)
            widest = max(widest, *_propagate_shapes(self._module, features))
            on_cpu = features[0].device.type == "cpu"
            fast_on_cpu = on_cpu and self._dtype in (torch.float32, torch.float64)
            if settings.simplify:
                self._fold_linear(self._module)
                if fast_on_cpu:
                    _use_exp(self._module)
            if settings.winograd and fast_on_cpu:
                self._transforms |= use_winograd(self._module)
            if settings.channels_last and on_cpu and self._dtype == torch.bfloat16 and processor() == "AMX":
                self._transforms |= use_unfolded(self._module)
            self._module.recompile()
        bytes_per_image = widest * self._dtype.itemsize * settings.edits_together
        self.batch_size = settings.batch_size or max(1, ACTIVATION_BYTES // max(1, bytes_per_image))
        self._module.to(self._dtype).requires_grad_(False)
        for place, tensor in self._make(dict(self._values), self._recipes).items():
            owner, _, name = place.rpartition(".")
            # A parameter of its own for each place: weights that were tied may be folded differently.
            setattr(self._module.get_submodule(owner), name, nn.Parameter(tensor, requires_grad=False))
        self._run: Callable[..., Tensor] = partial(functional_call, self._module, tie_weights=False)
        if settings.compile:
            mode = "reduce-overhead" if features[0].is_cuda else None
            options = _own_instruction_set() if features[0].device.type == "cpu" else None
            self._run = torch.compile(self._run, mode=mode, options=options)
            graphs = Graphs(features[0].device, wanted=False)  # it has its own
        self._full_batches = ReplayedRun(self._run, graphs or settings.graphs_on(features[0].device))

    @torch.no_grad()
    def prepare(self, params: Mapping[str, Tensor]) -> Weights:
        """Turn the parameters of one edited network into the weights that this form computes with.

        Args:
            params: Editable parameters by name, as for `SplitNetwork.suffix`.

        Raises:
            UserError: If ``params`` names a parameter that the split does not edit.
        """
        self._split.require_editable(params)
        edited = {place for place, name in self._names.items() if name in params}
        values = {**self._values, **{place: params[self._names[place]] for place in edited}}
        return self._make(values, [recipe for recipe in self._recipes if not edited.isdisjoint(recipe.reads)])

    @torch.no_grad()
    def __call__(self, features: Features, weights: Weights) -> Tensor:
        """Compute logits [N, C] in full precision from what bfloat16 or full precision gives.

        Args:
            features: Features of N images, of any precision and layout.
            weights: What `prepare` returned.
        """
        run = self._full_batches if len(features[0]) == self.batch_size else self._run
        return self._in_full_precision(run(weights, self._laid_out(features)))

    @torch.no_grad()
    def run_together(self, features: Features, weights: Sequence[Weights]) -> Tensor:
        """Compute logits [E, N, C] of E edited networks at once."""
        places = dict.fromkeys(place for each in weights for place in each)
        base = {place: self._module.get_parameter(place) for place in places}
        stacked = {place: torch.stack([{**base, **each}[place] for each in weights]) for place in places}
        features = self._laid_out(features)
        with attention_for(vectorised=True):
            return self._in_full_precision(torch.func.vmap(self._run, in_dims=(0, None))(stacked, features))

    def _in_full_precision(self, logits: Tensor) -> Tensor:
        return logits.float() if self._dtype == torch.bfloat16 else logits

    def _laid_out(self, features: Features) -> Features:
        return tuple(self._lay_out(feature) for feature in features)

    def _lay_out(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        memory_format = self._memory_format if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(self._dtype).contiguous(memory_format=memory_format)

    def _make(self, values: Mapping[str, Tensor | None], recipes: Iterable["_Recipe"]) -> Weights:
        weights: Weights = {}
        for recipe in recipes:
            made = recipe.make(*(values.get(place) for place in recipe.reads))
            for place, tensor in zip(recipe.reads, made, strict=False):
                weights[place] = self._lay_out(self._transforms.get(place, _identity)(tensor))
        return weights

    def _fold_batch_norm(self, module: fx.GraphModule) -> None:
        """Replace each BatchNorm that is the only reader of a convolution by a new weight and bias of that."""
        uses = count_uses(module.graph)
        for node in list(module.graph.nodes):
            source = node.args[0] if node.op == "call_module" and node.args else None
            if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
                continue
            first, second = str(source.target), str(node.target)
            convolution, norm = module.get_submodule(first), module.get_submodule(second)
            if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or not norm.track_running_stats:
                continue
            if uses[first] > 1 or uses[second] > 1 or has_hooks(convolution) or has_hooks(norm):
                continue
            reads = tuple(f"{place}.{name}" for place in (first, second) for name in ("weight", "bias"))
            self._recipes = [recipe for recipe in self._recipes if set(reads).isdisjoint(recipe.reads)]
            self._recipes.append(_Recipe(reads, _fold(norm)))
            convolution.bias = nn.Parameter(convolution.weight.new_empty(convolution.out_channels))
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)

    def _fold_linear(self, module: fx.GraphModule) -> None:
        """Multiply a linear layer into the next one, which alone reads it, or alone reads its sum with another value.

        B(A h) becomes (BA) h, and B(x + A h) becomes B x + (BA) h, where that is less work.
        """
        uses, folded = count_uses(module.graph), set[str]()

        def linear(node: fx.Node) -> nn.Linear | None:
            place = str(node.target)
            layer = module.get_submodule(place) if node.op == "call_module" else None
            if not isinstance(layer, nn.Linear) or type(layer) is not nn.Linear or has_hooks(layer):
                return None
            return layer if uses[place] == 1 and place not in folded and len(node.args) == 1 else None

        for node in list(module.graph.nodes):
            after = linear(node)
            if after is None:
                continue
            (joined,) = node.all_input_nodes
            is_sum = joined.target in (operator.add, torch.add) and not joined.kwargs
            terms = joined.all_input_nodes if is_sum else [joined]
            own = next((term for term in terms if len(term.users) == 1 and linear(term)), None)
            if own is None or len(joined.users) > 1 or (is_sum and not _are_terms(joined, after.in_features)):
                continue
            before = linear(own)
            assert before is not None
            work = after.out_features * (before.in_features + (after.in_features if is_sum else 0))
            if work >= before.out_features * (before.in_features + after.out_features):
                continue
            folded |= {str(own.target), str(node.target)}
            self._merge(module, own, node, is_sum)
            if is_sum:
                with module.graph.inserting_after(node):
                    total = module.graph.call_function(operator.add, (node, own))
                node.replace_all_uses_with(total, delete_user_cb=lambda user, total=total: user is not total)
                node.args = tuple(term for term in terms if term is not own)
                module.graph.erase_node(joined)
            else:
                node.replace_all_uses_with(own)
                module.graph.erase_node(node)

    def _merge(self, module: fx.GraphModule, own: fx.Node, next_node: fx.Node, is_sum: bool) -> None:
        """Give a linear layer the product of itself and the next one, and its bias too unless they stay in a sum."""
        first, second = str(own.target), str(next_node.target)
        before, after = module.get_submodule(first), module.get_submodule(second)
        assert isinstance(before, nn.Linear)
        assert isinstance(after, nn.Linear)
        written = (f"{first}.weight", f"{first}.bias")
        self._recipes = [recipe for recipe in self._recipes if set(written).isdisjoint(recipe.reads)]
        reads = (*written, f"{second}.weight", *(() if is_sum else (f"{second}.bias",)))
        self._recipes.append(_Recipe(reads, _multiply))
        module.set_submodule(first, nn.Linear(before.in_features, after.out_features).to(before.weight))


def _own_instruction_set() -> dict[str, str | int | bool | Callable[..., Any]]:
    """Return the options of ``torch.compile`` that name the vector width it would choose by itself.

    Its cache on disk knows code by its options, not by the width the code was written for. A cache that machines with
    AVX-512 and AVX2 share, or that ``ATEN_CPU_CAPABILITY`` divides, would give one the other's code: wrong values.
    """
    from torch._inductor.cpu_vec_isa import pick_vec_isa  # slow to import, and only needed here

    return {"cpp.simdlen": pick_vec_isa().bit_width()}


def _propagate_shapes(module: fx.GraphModule, features: Features) -> list[int]:
    """Note every value's shape for one image in its node; return how many numbers each has."""
    dtype = next(module.parameters()).dtype
    with torch.no_grad():
        ShapeProp(module).propagate(*(f[:1].to(dtype) if f.is_floating_point() else f[:1] for f in features))
    metas = [node.meta.get("tensor_meta") for node in module.graph.nodes]
    return [meta.shape.numel() for meta in metas if isinstance(meta, TensorMetadata)]


def _are_terms(node: fx.Node, size: int) -> bool:
    """Whether a sum is that of two different tensors, with as many numbers in their last dimension."""
    metas = [term.meta.get("tensor_meta") for term in node.all_input_nodes]
    tensors = [meta for meta in metas if isinstance(meta, TensorMetadata)]
    return len(node.args) == 2 == len(tensors) and all(meta.shape[-1:] == (size,) for meta in tensors)


def _use_exp(module: fx.GraphModule) -> None:
    """Compute ELU by `_elu`."""
    for node in module.graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            replaceable = type(layer) is nn.ELU and layer.alpha == 1 and not has_hooks(layer)
        else:
            replaceable = node.target is functional.elu and len(node.args) == 1 and node.kwargs.get("alpha", 1) == 1
        if replaceable:
            node.op, node.target, node.args, node.kwargs = "call_function", _elu, node.args[:1], {}


def _elu(x: Tensor) -> Tensor:
    """Return x where x > 0, else eˣ − 1, of which the latter is nowhere below x and for x > 0 is taken at 0."""
    return torch.maximum(x, x.clamp(max=0).exp_().sub_(1))


class _Recipe(NamedTuple):
    """How weights of the form are made from parameters of the network: those in the first places read."""

    reads: tuple[str, ...]
    make: Callable[..., tuple[Tensor, ...]]


def _keep(tensor: Tensor) -> tuple[Tensor, ...]:
    return (tensor,)


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _multiply(
    weight: Tensor, bias: Tensor | None, next_weight: Tensor, next_bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return weight and bias of a linear layer with another one behind it, whose bias is added where it is given."""
    shift = weight.new_zeros(len(next_weight)) if next_bias is None else next_bias
    return next_weight @ weight, shift if bias is None else shift + next_weight @ bias


def _fold(norm: nn.BatchNorm2d) -> Callable[..., tuple[Tensor, ...]]:
    """Return the function that folds this BatchNorm's statistics into a convolution's weight and bias."""
    mean, variance, epsilon = norm.running_mean, norm.running_var, norm.eps
    assert mean is not None
    assert variance is not None

    def fold(weight: Tensor, bias: Tensor | None, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, ...]:
        return fuse_conv_bn_weights(weight, bias, mean, variance, epsilon, scale, shift)

    return fold
