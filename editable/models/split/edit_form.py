"""A half of a network in the form that edits are differentiated through."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from editable.models.machine.product import product
from editable.models.split.deferred_gradient import DeferredWeight
from editable.models.split.form_table import is_product

__all__ = ["SharedKernel", "allow_any_layout", "edit_form", "has_hooks", "kernels_of", "patch_conv2d"]

Geometry: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]
"""Stride, padding and dilation, each along H and W, and the number of groups."""


def edit_form(graph: fx.Graph, network: nn.Module) -> fx.Graph:
    """Rewrite a graph so that edits, and batches through edited networks, run fast and are differentiated cheaply.

    A convolution and the BatchNorm that alone reads it become `frozen_conv2d`, others `patch_conv2d` and
    `frozen_batch_norm`, with running statistics. The result is the same up to rounding. A layer with hooks, such as one
    that computes the layer's weight, is left as it is.

    Args:
        graph: A graph of operations on the network's modules, as `trace_pure` gives.
        network: The network, whose parameters and buffers are read by name at the time of the call.
    """
    modules = {node: network.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"}
    convolutions = {node: module for node, module in modules.items() if _is_plain_convolution(module)}
    norms = {node: module for node, module in modules.items() if _is_frozen_norm(module)}
    sources = {node: node.all_input_nodes[0] for node in (*convolutions, *norms)}
    merged = {sources[norm] for norm in norms if sources[norm] in convolutions and len(sources[norm].users) == 1}
    rewritten = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}

    def tensors(node: fx.Node, *names: str) -> list[fx.Node | None]:
        layer = modules[node]
        return [None if getattr(layer, name) is None else rewritten.get_attr(f"{node.target}.{name}") for name in names]

    def of_convolution(node: fx.Node) -> list[Any]:
        layer = convolutions[node]
        return [*tensors(node, "weight", "bias"), (layer.stride, layer.padding, layer.dilation, layer.groups)]

    def of_norm(node: fx.Node) -> list[Any]:
        return [*tensors(node, "running_mean", "running_var", "weight", "bias"), norms[node].eps]

    for node in graph.nodes:
        if node in merged:
            continue  # comes with the BatchNorm that reads it
        if node in norms and sources[node] in merged:
            first = sources[node]
            arguments = (copies[sources[first]], *of_convolution(first), *of_norm(node))
            copies[node] = rewritten.call_function(frozen_conv2d, arguments)
        elif node in convolutions:
            copies[node] = rewritten.call_function(patch_conv2d, (copies[sources[node]], *of_convolution(node)))
        elif node in norms:
            copies[node] = rewritten.call_function(frozen_batch_norm, (copies[sources[node]], *of_norm(node)))
        else:
            copies[node] = rewritten.node_copy(node, copies.__getitem__)
    allow_any_layout(rewritten)
    return rewritten


def _is_plain_convolution(module: nn.Module) -> bool:
    plain = type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return plain and not has_hooks(module)


def _is_frozen_norm(module: nn.Module) -> bool:
    return type(module) is nn.BatchNorm2d and module.track_running_stats and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Return whether calling a module does more, before or after, than its forward."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def allow_any_layout(graph: fx.Graph) -> None:
    """Replace ``view``, which fails where a rewritten graph lays memory out in another way, by ``reshape``."""
    for node in graph.nodes:
        if node.op == "call_method" and node.target in ("view", "view_as"):
            node.op, node.target = "call_function", {"view": _reshape, "view_as": torch.Tensor.reshape_as}[node.target]


def _reshape(x: Tensor, *shape: Any, **keywords: Any) -> Tensor:
    """Do what ``x.view`` does, which can also reinterpret the bits as another data type."""
    return x.view(*shape, **keywords) if keywords or isinstance(shape[0], torch.dtype) else x.reshape(*shape)


class SharedKernel(Tensor):
    """Stands for a kernel that no step of an unrolled edit changes; see `DeferredWeight`."""

    parameter: Tensor
    deferred: DeferredWeight

    @staticmethod
    def of(parameter: Tensor) -> "SharedKernel":
        """Make one for an edit; its values are the parameter's own memory."""
        shared = parameter.detach().as_subclass(SharedKernel)
        shared.parameter, shared.deferred = parameter, DeferredWeight(_as_matrix(parameter))
        return shared


def kernels_of(graph: fx.Graph) -> tuple[str, ...]:
    """Return the names of the kernels that a graph in the edit form convolves with."""
    convolutions = [node for node in graph.nodes if node.target in (patch_conv2d, frozen_conv2d)]
    return tuple(dict.fromkeys(str(node.args[1].target) for node in convolutions))


def patch_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve, for few positions as the product of the weight and the unfolded input; how few is `FORMS`' to say.

    With one image, a convolution reads far more weights than pixels, and its second derivatives meet kernels that
    were not made for that shape; a matrix product has no such corner, and `torch.func.vmap` over weights makes it a
    batched product. Else this is `torch.nn.functional.conv2d`, a grouped one under `vmap`.

    Args:
        x: Input ``[N, c, H, W]``.
        weight: Kernel ``[f, c / groups, m, n]``.
        bias: ``[f]``, or None.
        geometry: Stride, zeros of padding on each side, dilation, each along H and W, and the number of groups.

    Returns:
        ``[N, f, H', W']``.
    """
    if not _is_product(x, weight, geometry):
        return _convolve(x, _own(weight), bias, geometry)
    stride, padding, dilation, _ = geometry
    kernel = weight.shape[-2:]
    if kernel == (1, 1) and padding == (0, 0):
        patches = x[:, :, :: stride[0], :: stride[1]].flatten(2)
    else:
        patches = functional.unfold(x, kernel, dilation, padding, stride)
    columns = patches.transpose(0, 1)  # [c·m·n, N, H'·W']
    if _is_channels_last(weight):
        columns = columns.unflatten(0, (x.shape[1], kernel.numel())).transpose(0, 1).flatten(0, 1)
    columns = columns.flatten(1)
    if isinstance(weight, SharedKernel) and not torch._C._functorch.is_functorch_wrapped_tensor(x):
        values = weight.deferred.product(columns)
    else:
        values = product(_as_matrix(_own(weight)), columns)
    if bias is not None:
        values = values + bias.unsqueeze(-1)
    return values.unflatten(1, (len(x), *_output_size(x, weight_size=kernel, geometry=geometry))).transpose(0, 1)


def frozen_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    mean: Tensor,
    variance: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    epsilon: float,
) -> Tensor:
    """Convolve, then normalise by running statistics.

    As a convolution the scale is multiplied into the kernel: the values before normalisation are neither kept for
    the backward pass nor read again. As a product, where the kernel is the larger of the two, it is not.

    Args:
        x: Input ``[N, c, H, W]``.
        weight: Kernel ``[f, c / groups, m, n]``.
        bias: ``[f]``, or None.
        geometry: As for `patch_conv2d`.
        mean: Running mean ``[f]``.
        variance: Running variance ``[f]``.
        norm_weight: ``[f]``, or None.
        norm_bias: ``[f]``, or None.
        epsilon: Added to the variance.

    Returns:
        ``[N, f, H', W']``.
    """
    if _is_product(x, weight, geometry):
        values = patch_conv2d(x, weight, bias, geometry)
        return frozen_batch_norm(values, mean, variance, norm_weight, norm_bias, epsilon)
    scale, shift = _scale_and_shift(mean, variance, norm_weight, norm_bias, epsilon)
    folded = (_own(weight) * scale.view(-1, 1, 1, 1)).to(weight.dtype)
    shift = shift if bias is None else torch.addcmul(shift, bias, scale)
    return _convolve(x, folded, shift.to(weight.dtype), geometry)


def frozen_batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """Normalise ``[N, C, H, W]`` by running statistics: one scale and one shift per channel, in the input's type."""
    scale, shift = _scale_and_shift(mean, variance, weight, bias, epsilon)
    return torch.addcmul(shift.view(-1, 1, 1), x, scale.view(-1, 1, 1)).to(x.dtype)


def _is_channels_last(weight: Tensor) -> bool:
    return weight.stride(1) == 1


def _as_matrix(weight: Tensor) -> Tensor:
    """View a kernel as a matrix, in the order in which it lies in memory: it is larger than the patches."""
    return (weight.permute(0, 2, 3, 1) if _is_channels_last(weight) else weight).flatten(1)


def _own(weight: Tensor) -> Tensor:
    """Return the parameter itself, where a shared kernel stands for it."""
    return weight.parameter if isinstance(weight, SharedKernel) else weight


def _scale_and_shift(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor]:
    scale = (variance + epsilon).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    if x.dtype == torch.float64 and torch._C._functorch.is_functorch_wrapped_tensor(weight):
        # Under vmap, torch's convolution in float64 has wrong gradients for channels-last weights (torch 2.15, CPU).
        weight = weight.contiguous()
    return functional.conv2d(x, weight, bias, *geometry)


def _is_product(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    height, width = _output_size(x, weight.shape[-2:], geometry)
    return geometry[3] == 1 and is_product(weight, x.device, len(x) * height * width)


def _output_size(x: Tensor, weight_size: Sequence[int], geometry: Geometry) -> tuple[int, int]:
    stride, padding, dilation, _ = geometry
    height, width = (
        (x.shape[axis - 2] + 2 * padding[axis] - dilation[axis] * (weight_size[axis] - 1) - 1) // stride[axis] + 1
        for axis in (0, 1)
    )
    return height, width
