"""A half of a network in the form that edits are differentiated through."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

__all__ = ["allow_any_layout", "edit_form", "has_hooks", "patch_conv2d"]

Geometry: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]
"""Stride, padding and dilation, each along H and W, and the number of groups."""

NORM_TENSORS = ("running_mean", "running_var", "weight", "bias")

# Up to so many output positions, over all images, a convolution on a CPU is done as one matrix product.
MAX_POSITIONS = 2048


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
    modules = {node: module for node, module in modules.items() if not has_hooks(module)}
    convolutions = {node: module for node, module in modules.items() if _is_plain_convolution(module)}
    norms = {node: module for node, module in modules.items() if _is_frozen_norm(module)}
    followed = {_source(node): node for node in norms if _source(node) in convolutions and len(_source(node).users) == 1}
    rewritten = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in followed:
            continue  # done together with the BatchNorm that follows
        if node not in convolutions and node not in norms:
            copies[node] = rewritten.node_copy(node, copies.__getitem__)
            continue
        before = _source(node) if node in norms and _source(node) in followed else None
        arguments: list[Any] = [copies[_source(before or node)]]
        for part in (before, node):
            if part in convolutions:
                arguments += [_read(rewritten, modules, part, name) for name in ("weight", "bias")]
                module = convolutions[part]
                arguments += [(module.stride, module.padding, module.dilation, module.groups)]
            elif part in norms:
                arguments += [_read(rewritten, modules, part, name) for name in NORM_TENSORS] + [norms[part].eps]
        function = frozen_conv2d if before else patch_conv2d if node in convolutions else frozen_batch_norm
        copies[node] = rewritten.call_function(function, tuple(arguments))
    allow_any_layout(rewritten)
    return rewritten


def _is_plain_convolution(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _is_frozen_norm(module: nn.Module) -> bool:
    return type(module) is nn.BatchNorm2d and module.track_running_stats


def _source(node: fx.Node) -> fx.Node:
    """Return the one input of a layer."""
    return node.all_input_nodes[0]


def _read(graph: fx.Graph, modules: dict[fx.Node, nn.Module], node: fx.Node, name: str) -> fx.Node | None:
    """Read a module's tensor by name; None where it has none."""
    return graph.get_attr(f"{node.target}.{name}") if getattr(modules[node], name) is not None else None


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


def patch_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve, for few positions on a CPU as the product of the weight and the unfolded input.

    With one image, a convolution reads far more weights than pixels, and its second derivatives meet kernels that
    were not made for that shape; a matrix product has no such corner, and `torch.func.vmap` over weights makes it a
    batched product. Where there are many positions, or on a GPU, this is `torch.nn.functional.conv2d`.

    Args:
        x: Input ``[N, c, H, W]``.
        weight: Kernel ``[f, c / groups, m, n]``.
        bias: ``[f]``, or None.
        geometry: Stride, zeros of padding on each side, dilation, each along H and W, and the number of groups.

    Returns:
        ``[N, f, H', W']``.
    """
    if not _has_few_positions(x, weight, geometry):
        return functional.conv2d(x, weight, bias, *geometry)
    stride, padding, dilation, _ = geometry
    kernel = weight.shape[-2:]
    if kernel == (1, 1) and padding == (0, 0):
        patches = x[:, :, :: stride[0], :: stride[1]].flatten(2)
    else:
        patches = functional.unfold(x, kernel, dilation, padding, stride)
    columns = patches.transpose(0, 1)  # [c·m·n, N, H'·W']
    if weight.stride(1) == 1:  # channels last: no copy of the weight, which is larger than the patches
        columns = columns.unflatten(0, (x.shape[1], kernel.numel())).transpose(0, 1).flatten(0, 1)
        weight = weight.permute(0, 2, 3, 1)
    values = weight.flatten(1) @ columns.flatten(1)
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

    For many positions the scale is multiplied into the kernel: the values before normalisation are neither kept for
    the backward pass nor read again. For few, where the kernel is the larger of the two, it is not.

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
    if _has_few_positions(x, weight, geometry):
        values = patch_conv2d(x, weight, bias, geometry)
        return frozen_batch_norm(values, mean, variance, norm_weight, norm_bias, epsilon)
    scale, shift = _scale_and_shift(mean, variance, norm_weight, norm_bias, epsilon)
    folded = (weight * scale.view(-1, 1, 1, 1)).to(weight.dtype)
    shift = shift if bias is None else torch.addcmul(shift, bias, scale)
    return functional.conv2d(x, folded, shift.to(weight.dtype), *geometry)


def frozen_batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """Normalise ``[N, C, H, W]`` by running statistics: one scale and one shift per channel, in the input's type."""
    scale, shift = _scale_and_shift(mean, variance, weight, bias, epsilon)
    return torch.addcmul(shift.view(-1, 1, 1), x, scale.view(-1, 1, 1)).to(x.dtype)


def _scale_and_shift(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor]:
    scale = (variance + epsilon).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def _has_few_positions(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    height, width = _output_size(x, weight.shape[-2:], geometry)
    return geometry[3] == 1 and x.device.type == "cpu" and len(x) * height * width <= MAX_POSITIONS


def _output_size(x: Tensor, weight_size: Sequence[int], geometry: Geometry) -> tuple[int, int]:
    stride, padding, dilation, _ = geometry
    height, width = (
        (x.shape[axis - 2] + 2 * padding[axis] - dilation[axis] * (weight_size[axis] - 1) - 1) // stride[axis] + 1
        for axis in (0, 1)
    )
    return height, width
