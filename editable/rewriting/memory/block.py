"""One layer of a network as a block: the layer, the BatchNorm behind it and the activation behind that."""

import re
import warnings
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules import activation, batchnorm

from editable.errors import UserError
from editable.models import evaluation_mode
from editable.models.split.subgraph import ancestors, as_function, extract
from editable.models.split.tracing import trace_pure
from editable.models.tied import tied_names
from editable.rewriting.memory.memory import ConvGeometry

__all__ = ["LayerBlock"]

_TRANSPARENT = (nn.Identity, nn.modules.dropout._DropoutNd)
"""Modules that do nothing in evaluation mode."""

_ACTIVATION_FUNCTIONS = re.compile(
    r"relu6?_?|leaky_relu|[cs]?elu|gelu|silu|mish|hardswish|hardtanh|hardsigmoid|tanh|sigmoid|softplus"
)


class LayerBlock:
    """A linear or convolutional layer of a network, with what it reads and what is done to its output alone.

    The block is layer → BatchNorm → activation, as far as these follow one another and nothing else reads the values in
    between: a residual branch that is added behind BatchNorm belongs neither to the keys nor to the values. It is found
    by ``torch.fx``. Of a network that cannot be traced, the block is the layer alone, with a warning.

    Everything runs in evaluation mode, whatever the mode of the network: running statistics, frozen. Nothing is ever
    written to the network; another weight is an argument. The network's own parameters and buffers are read at the
    time of the call.

    Padding other than by as many zeros on both sides counts as part of what leads to the layer.

    Args:
        network: The network, called with one tensor [N, …].
        layer: The layer's name, or the end of it where only one layer's name ends so.

    Attributes:
        network: The network.
        layer: The layer's full name.
        geometry: How the kernel moves; none for a linear layer.
        stages: Names of layer, BatchNorm and activation as far as they are there.

    Raises:
        UserError: If there is no such layer, or it is neither linear nor a plain two-dimensional convolution, has
            groups, or is used at several places or nowhere.
    """

    layer: str
    geometry: ConvGeometry | None
    stages: tuple[str, ...]

    def __init__(self, network: nn.Module, layer: str) -> None:
        self.network, self.layer = network, _full_name(network, layer)
        self._module = network.get_submodule(self.layer)
        _check_kind(self.layer, self._module)
        self._say_tied()
        try:
            with evaluation_mode(network):
                graph = trace_pure(network, [self.weight_name])
        except Exception as error:  # whatever tracing raises
            self._take_untraced(error)
        else:
            self._take_traced(graph)

    @property
    def weight_name(self) -> str:
        """The name of the layer's weight among the network's parameters."""
        return f"{self.layer}.weight"

    @property
    def weight(self) -> nn.Parameter:
        """The layer's weight, the network's own: [f, c] or [f, c, m, n]."""
        return self.network.get_parameter(self.weight_name)

    @property
    def upstream_state(self) -> dict[str, Tensor]:
        """Parameters and buffers that the layer's inputs depend on, by name: the network's own.

        Of a network that cannot be traced, all are taken to be.
        """
        return {name: tensor for name, tensor in self.network.state_dict(keep_vars=True).items() if self._leads(name)}

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the layer reads; of the network, only what leads there is run.

        Args:
            x: Inputs of the network, [N, …].

        Returns:
            [N, c, H, W]; of a linear layer [N, …, c].
        """
        with evaluation_mode(self.network):
            return self.padded(self._upstream(x))

    def outputs(self, inputs: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the output of the layer alone, with its bias.

        Args:
            inputs: What :meth:`inputs` returned.
            weight: In place of the layer's own.

        Returns:
            [N, f, H', W']; of a linear layer [N, …, f].
        """
        weight = self.weight if weight is None else weight
        bias = getattr(self._module, "bias", None)
        if self.geometry is None:
            return functional.linear(inputs, weight, bias)
        _, stride, padding, dilation = self.geometry
        return functional.conv2d(inputs, weight, bias, stride, padding, dilation)

    def values(self, inputs: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the output of the whole block; arguments and shapes as of :meth:`outputs`."""
        return self.finish(self.outputs(inputs, weight))

    def finish(self, outputs: Tensor) -> Tensor:
        """Return what BatchNorm and activation make of the layer's output; shapes as of :meth:`outputs`."""
        with evaluation_mode(self.network):
            return self._after(self.network, outputs)

    def padded(self, inputs: Tensor) -> Tensor:
        """Return what goes into the layer as :meth:`inputs` has it, with a padding that is no zeros made explicit."""
        return inputs if self._padding is None else functional.pad(inputs, *self._padding)

    def _say_tied(self) -> None:
        """Warn where another layer has the same weight, which a rewrite changes with this one."""
        names = tied_names(self.network).get(self.weight_name, ())
        places = [name.rpartition(".")[0] for name in names]
        others = [place for place in places if self.network.get_submodule(place) is not self._module]
        if others:
            warnings.warn(
                f"the weight of '{self.layer}' is also that of '{others[0]}': a rewrite changes both, and is solved as "
                "if what the layer reads stayed as it is",
                UserWarning,
                stacklevel=3,
            )

    def _take_traced(self, graph: fx.Graph) -> None:
        call = _find_call(graph, self.network, self.layer, self._module)
        self.geometry, self._padding = call.geometry, call.padding
        leading = _part(graph, call.read)
        upstream = as_function(self.network, leading)
        places = {str(node.target) for node in leading.nodes if node.op in ("call_module", "get_attr")}
        self._leads: Callable[[str], bool] = lambda name: name in places or name.rpartition(".")[0] in places
        followers = _followers(call.node, self.network)
        self.stages = (self.layer, *(str(node.target) if node.op == "call_module" else node.name for node in followers))
        self._after: Callable[[nn.Module, Tensor], Tensor] = as_function(
            self.network, extract(graph, set(followers), [call.node], followers[-1] if followers else call.node)
        )
        self._upstream: Callable[[Tensor], Tensor] = lambda x: upstream(self.network, x)

    def _take_untraced(self, error: Exception) -> None:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        warnings.warn(
            f"{type(self.network).__name__} cannot be traced by torch.fx ({reason}), so the block of '{self.layer}' is "
            "the layer alone, without the BatchNorm and activation behind it",
            UserWarning,
            stacklevel=3,
        )
        self.geometry, self._padding = _geometry_of(self._module)
        self.stages = (self.layer,)
        self._leads = lambda name: True
        self._after = lambda network, values: values
        self._upstream = self._run_until_layer

    def _run_until_layer(self, x: Tensor) -> Tensor:
        """Run an untraced network until it calls the layer."""

        def stop(module: nn.Module, args: tuple[Any, ...]) -> None:
            raise _ReachedError(args[0])

        handle = self._module.register_forward_pre_hook(stop)
        try:
            self.network(x)
        except _ReachedError as reached:
            return reached.inputs
        finally:
            handle.remove()
        raise UserError(f"{type(self.network).__name__} does not use its layer '{self.layer}' on these inputs")


class _ReachedError(Exception):
    """Carries a layer's input out of a forward pass that is cut short."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.inputs = inputs


_Padding = tuple[tuple[int, int, int, int], str]
"""Pixels on the left, right, top and bottom, and what they hold, as `torch.nn.functional.pad` takes them."""


class _Call(NamedTuple):
    """Where a layer stands in a graph: its node, the node that it reads, and how it convolves."""

    node: fx.Node
    read: fx.Node
    geometry: ConvGeometry | None
    padding: _Padding | None


def _full_name(network: nn.Module, layer: str) -> str:
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if layer in dict(network.named_modules()) and layer:
        return layer
    ending = [name for name in names if name.endswith(f".{layer}")]
    if len(ending) == 1:
        return ending[0]
    near = ending or get_close_matches(layer, names, n=5) or names[:5]
    raise UserError(
        f"{type(network).__name__} has no layer '{layer}': "
        + (
            f"linear and convolutional layers are {', '.join(near)}"
            if near
            else "it has no linear or convolutional one"
        )
    )


def _check_kind(name: str, module: nn.Module) -> None:
    if not isinstance(module, nn.Linear | nn.Conv2d):
        inside = [
            f"{name}.{inner}" for inner, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
        ]
        hint = f"name one of the layers inside it, such as '{inside[0]}'" if inside else "name another layer"
        raise UserError(
            f"only linear and two-dimensional convolutional layers are memories, but '{name}' is a "
            f"{type(module).__name__}: {hint}"
        )
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        raise UserError(
            f"'{name}' is a convolution with {module.groups} groups, each of which would be a memory of its own: "
            "choose a layer without groups"
        )
    if not isinstance(getattr(module, "weight", None), nn.Parameter) or "weight" not in module._parameters:
        raise UserError(
            f"the weight of '{name}' is computed from others (a parametrisation, such as spectral or weight norm): "
            "remove that first, for example by torch.nn.utils.parametrize.remove_parametrizations"
        )


def _find_call(graph: fx.Graph, network: nn.Module, name: str, module: nn.Module) -> _Call:
    """Find the one place where a layer is used, as a module or as a function of its weight."""
    calls = list(_calls(graph, name, module))
    if len(calls) != 1:
        used = "is not used" if not calls else f"is used at {len(calls)} places"
        raise UserError(
            f"'{name}' of {type(network).__name__} {used} in a forward pass: a layer is rewritten at the one place "
            "where it works"
        )
    return calls[0]


def _calls(graph: fx.Graph, name: str, module: nn.Module) -> Iterator[_Call]:
    for node in graph.nodes:
        if node.op == "call_module" and node.target == name:
            yield _Call(node, node.all_input_nodes[0], *_geometry_of(module))
        elif node.op == "get_attr" and node.target == f"{name}.weight":
            for user in node.users:
                yield _function_call(user, node, name, module)


def _function_call(node: fx.Node, weight: fx.Node, name: str, module: nn.Module) -> _Call:
    """Read the geometry of ``conv2d(x, weight, …)`` or ``linear(x, weight, …)`` in a subclass's forward."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    arguments: dict[str, Any] = (
        {"stride": 1, "padding": 0, "dilation": 1} | dict(zip(names, node.args, strict=False)) | node.kwargs
    )
    function = getattr(node.target, "__name__", "")
    if function not in ("conv2d", "linear") or arguments.get("weight") is not weight:
        raise UserError(f"'{name}' does more with its weight than to convolve or multiply: choose another layer")
    if function == "linear":
        return _Call(node, arguments["input"], None, None)
    stride, padding, dilation = (arguments[key] for key in ("stride", "padding", "dilation"))
    kernel: Any = module.kernel_size
    return _Call(node, arguments["input"], *_geometry(kernel, stride, padding, dilation, "zeros"))


def _geometry_of(module: nn.Module) -> tuple[ConvGeometry | None, _Padding | None]:
    if not isinstance(module, nn.Conv2d):
        return None, None
    kernel: Any = module.kernel_size
    return _geometry(kernel, module.stride, module.padding, module.dilation, module.padding_mode)


def _geometry(
    kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any, mode: str
) -> tuple[ConvGeometry, _Padding | None]:
    """Return a convolution's geometry, and the padding that has to be done before, if any."""
    strides, dilations = _pair(stride), _pair(dilation)
    if padding == "valid":
        padding = 0
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        sides = [(length // 2, length - length // 2) for length in reach]
    else:
        sides = [(length, length) for length in _pair(padding)]
    if mode == "zeros" and all(first == last for first, last in sides):
        return ConvGeometry(kernel, strides, (sides[0][0], sides[1][0]), dilations), None
    before = (*sides[1], *sides[0])
    return ConvGeometry(kernel, strides, (0, 0), dilations), (before, "constant" if mode == "zeros" else mode)


def _pair(value: Any) -> tuple[int, int]:
    first, last = (value, value) if isinstance(value, int) else value
    return int(first), int(last)


def _part(graph: fx.Graph, output: fx.Node) -> fx.Graph:
    """Return the part of a graph that leads from the network's input to a node."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    return extract(graph, ancestors([output], within=set(graph.nodes)), placeholders, output)


def _followers(node: fx.Node, network: nn.Module) -> list[fx.Node]:
    """Return the BatchNorm and the activation that alone read a layer's output, in this order, as far as there are."""
    followers: list[fx.Node] = []
    wanted: list[Callable[[fx.Node, nn.Module], bool]] = [_is_batch_norm, _is_activation]
    while wanted and len(node.users) == 1:
        node = next(iter(node.users))
        if len(node.all_input_nodes) != 1:
            break
        if _is_module(node, network, _TRANSPARENT):
            followers.append(node)
            continue
        kinds = [index for index, is_kind in enumerate(wanted) if is_kind(node, network)]
        if not kinds:
            break
        wanted = wanted[kinds[0] + 1 :]
        followers.append(node)
    while followers and _is_module(followers[-1], network, _TRANSPARENT):
        followers.pop()
    return followers


def _is_module(node: fx.Node, network: nn.Module, kinds: type | tuple[type, ...]) -> bool:
    return node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), kinds)


def _is_batch_norm(node: fx.Node, network: nn.Module) -> bool:
    return _is_module(node, network, batchnorm._BatchNorm)


def _is_activation(node: fx.Node, network: nn.Module) -> bool:
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        return type(module).__module__ == activation.__name__ and not isinstance(module, nn.MultiheadAttention)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and _ACTIVATION_FUNCTIONS.fullmatch(name) is not None
