"""The suffix in the form that edits run through: few images, many steps, differentiated twice."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

__all__ = ["allow_any_layout", "edit_form", "has_hooks", "patch_conv2d"]

# Up to so many output positions, over all images, a convolution on a CPU is done as one matrix product.
MAX_POSITIONS = 2048


def edit_form(graph: fx.Graph, network: nn.Module) -> fx.Graph:
    """Rewrite a graph so that an edit of few images runs through it fast, once and twice differentiated.

    Convolutions become `patch_conv2d`, whose derivatives of any order are matrix products; BatchNorm, with its running
    statistics, becomes a scale and a shift. The result is the same up to rounding. A layer with hooks, such as one
    that computes the layer's weight, is left as it is.

    Args:
        graph: A graph of operations on the network's modules, as `trace_pure` gives.
        network: The network, whose parameters and buffers are read by name at the time of the call.
    """
    rewritten = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and has_hooks(module):
            module = None
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            arguments: tuple[Any, ...] = (module.stride, module.padding, module.dilation, module.groups)
            copies[node] = _call(rewritten, patch_conv2d, node, copies, module, ("weight", "bias"), arguments)
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:
            names = ("running_mean", "running_var", "weight", "bias")
            copies[node] = _call(rewritten, frozen_batch_norm, node, copies, module, names, (module.eps,))
        else:
            copies[node] = rewritten.node_copy(node, copies.__getitem__)
    allow_any_layout(rewritten)
    return rewritten


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


def patch_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Convolve, for few positions on a CPU as the product of the weight and the unfolded input.

    With one image, a convolution reads far more weights than pixels, and its second derivatives meet kernels that
    were not made for that shape; a matrix product has no such corner, and `torch.func.vmap` over weights makes it a
    batched product. Where there are many positions, or on a GPU, this is `torch.nn.functional.conv2d`.

    Args:
        x: Input ``[N, c, H, W]``.
        weight: Kernel ``[f, c / groups, m, n]``.
        bias: ``[f]``, or None.
        stride: Of the kernel, along H and W.
        padding: Zeros added on each side, along H and W.
        dilation: Between the kernel's taps, along H and W.
        groups: Number of groups.

    Returns:
        ``[N, f, H', W']``.
    """
    kernel = weight.shape[-2:]
    height, width = (
        (x.shape[axis - 2] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis in (0, 1)
    )
    if groups != 1 or x.device.type != "cpu" or len(x) * height * width > MAX_POSITIONS:
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if kernel == (1, 1) and padding == (0, 0):
        patches = x[:, :, :: stride[0], :: stride[1]].flatten(2)
    else:
        patches = functional.unfold(x, kernel, dilation, padding, stride)
    columns = patches.transpose(0, 1)  # [c·m·n, N, H'·W']
    if weight.stride(1) == 1:  # channels last: no copy of the weight, which is larger than the patches
        columns = columns.unflatten(0, (x.shape[1], -1)).transpose(0, 1)
        weight = weight.permute(0, 2, 3, 1)
    weight = weight.flatten(1)
    values = weight @ columns.reshape(weight.shape[1], len(x) * height * width)
    if bias is not None:
        values = values + bias.unsqueeze(-1)
    return values.unflatten(1, (len(x), height, width)).transpose(0, 1)


def frozen_batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """Normalise ``[N, C, H, W]`` by running statistics: one scale and one shift per channel, in the input's type."""
    scale = (variance + epsilon).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    return torch.addcmul(shift.view(-1, 1, 1), x, scale.view(-1, 1, 1)).to(x.dtype)


def _call(
    graph: fx.Graph,
    function: Any,
    node: fx.Node,
    copies: dict[fx.Node, fx.Node],
    module: nn.Module,
    names: tuple[str, ...],
    arguments: tuple[Any, ...],
) -> fx.Node:
    """Call a function in a module's place, with the module's tensors read by name."""
    tensors = (graph.get_attr(f"{node.target}.{name}") if getattr(module, name) is not None else None for name in names)
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    assert isinstance(source, fx.Node)
    return graph.call_function(function, (copies[source], *tensors, *arguments))
