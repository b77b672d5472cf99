"""Trace a network into a torch.fx graph of pure operations: none writes into a value that another one can see."""

import copy
import inspect
import operator
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any

from torch import Tensor, fx, nn

from editable.models.logits import logits_of

__all__ = ["UntraceableError", "computes_as_torchs", "find_plain_values", "trace_pure"]

_OUT_OF_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.imatmul: operator.matmul,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}

# What a class may have of its own without another forward pass than the class above it.
_NOT_COMPUTED = {
    *("__init__", "__module__", "__doc__", "__annotations__", "__constants__", "__firstlineno__"),
    *("__static_attributes__", "extra_repr", "reset_parameters", "get_extra_state", "set_extra_state"),
}

# What is read from a tensor without its values; the result is no tensor.
_METADATA = re.compile(
    r"shape|size|n?dim|ndimension|numel|nelement|dtype|device|layout|stride|itemsize|element_size|get_device"
    r"|is_(contiguous|floating_point|complex|cuda)"
)

# Functions and methods whose result never shares memory with an argument. One that is not listed is taken to return a
# view, which matters only where a network also writes in place.
_FRESH = re.compile(
    r"add|sub|mul|div|truediv|neg|pow|abs|exp|log|r?sqrt|clamp|where|sum|mean|clone|cat|concat|stack"
    r"|matmul|b?mm|addmm|linear|conv(_transpose)?[123]d|(adaptive_)?(avg|max)_pool[123]d"
    r"|(batch|layer|group|instance|rms|local_response)_norm|normalize|scaled_dot_product_attention"
    r"|relu6?|p?relu|leaky_relu|[cs]?elu|gelu|silu|mish|tanh|sigmoid|(log_)?softmax|softplus|hard(swish|sigmoid|tanh)"
)

# torch.nn modules whose result may be a view of the input, or in evaluation mode the input itself.
_VIEWING_MODULES = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.modules.dropout._DropoutNd,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    nn.Upsample,
)

_ONE_AT_A_TIME = RLock()
"""Held while one traces: torch.fx puts calls of its own into all modules of the process, and takes them back after."""


class UntraceableError(RuntimeError):
    """A network does something that a graph of pure operations cannot express."""


def trace_pure(network: nn.Module, editable: Collection[str] = ()) -> fx.Graph:
    """Trace a network and make its operations pure.

    Of an output that is no tensor, the graph returns the logits (`editable.models.logits_of`). Otherwise it computes
    exactly what the network computes in the mode it is in, with one difference: an operation that
    writes in place (``x += y``, ``x.add_(y)``, ``relu(x, inplace=True)``) no longer changes the input, nor any value
    that is used elsewhere. It becomes the same operation out of place, or acts on a clone, and every later use of the
    value it wrote to reads its result instead. Only an in-place module that is the single reader of a newly computed
    value is left as it is. Parameters, buffers and tensor attributes are read by name, never copied.

    A module that cannot be traced and has no editable parameter, such as the body of a classifier of transformers, is
    called as a whole, on copies of its inputs.

    Args:
        network: The network; its first input is the only one, further arguments take their default values.
        editable: Names of parameters whose modules have to be traced.

    Returns:
        A graph with one placeholder, to be run on the same network.

    Raises:
        Exception: Whatever tracing raises: fx's errors where control flow depends on the input, `UntraceableError`
            where the forward creates a tensor or writes into a view whose base is read later.
    """
    graph, whole = None, set[str]()
    while graph is None:
        tracer = _Tracer(whole)
        try:
            with _ONE_AT_A_TIME, _untouched(network):
                graph = tracer.trace(network)
        except Exception:
            failed = tracer.failed
            if failed is None or any(name.startswith(f"{failed}.") for name in editable):
                raise
            whole.add(failed)
    _make_out_of_place(graph, network)
    graph.lint()
    return graph


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    """Put a network's attributes back that its forward sets, so that no proxy stays in it."""
    held = [
        (
            module,
            dict(vars(module)),
            {name: copy.copy(value) for name, value in vars(module).items() if _is_held(value)},
        )
        for module in network.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, containers in held:
            vars(module).clear()
            vars(module).update(attributes)
            for name, content in containers.items():
                _refill(attributes[name], content)


def _is_held(value: Any) -> bool:
    return type(value) in (dict, OrderedDict, list, set)


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)


def find_plain_values(graph: fx.Graph) -> set[fx.Node]:
    """Find the nodes that are no tensors: shapes, data types, devices, and what Python computes from these alone."""
    plain: set[fx.Node] = set()
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if inputs and (_reads_metadata(node) or (_is_python(node) and all(source in plain for source in inputs))):
            plain.add(node)
    return plain


def _reads_metadata(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return _METADATA.fullmatch(str(node.args[1])) is not None
    return node.op == "call_method" and _METADATA.fullmatch(str(node.target)) is not None


def _is_python(node: fx.Node) -> bool:
    """Whether a call on plain values gives a plain value, as `torch.zeros(n)` does not."""
    if node.op == "call_function":
        return getattr(node.target, "__module__", None) in ("_operator", "builtins", "math")
    return node.op == "call_method"


def _recorder(operation: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def record(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return record


# Records `x += y` as such. With fx's own proxy, Python falls back to `x = x + y`, which other names of x do not see.
_InPlaceProxy: type[fx.Proxy] = type(
    "_InPlaceProxy", (fx.Proxy,), {f"__{operation.__name__}__": _recorder(operation) for operation in _OUT_OF_PLACE}
)


class _Tracer(fx.Tracer):
    """Traces with one input, and leaves the network untouched, and those that other threads run meanwhile.

    Args:
        whole: Names of modules that are called as a whole.

    Attributes:
        failed: Name of the innermost module that could not be traced; none where that is the network itself.
    """

    proxy_buffer_attributes = True  # a buffer sliced in the forward must stay live, not become a constant

    def __init__(self, whole: Collection[str]) -> None:
        super().__init__()
        self._whole = whole
        self._thread = get_ident()
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or computes_as_torchs(type(m))

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        if path in self._whole:
            args, kwargs = (fx.node.map_aggregate(given, self._copied) for given in (args, kwargs))
            return self.create_proxy("call_module", path, args, kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or path
            raise

    def _copied(self, given: Any) -> Any:
        return self.create_proxy("call_function", _copy_of, (given,), {}) if isinstance(given, fx.Proxy) else given

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlaceProxy(node, self)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        inputs = [self.root, self.create_proxy("placeholder", "x", (), {})]
        return lambda *given: logits_of(root_fn(*given)), inputs

    def create_arg(self, a: Any) -> Any:
        # fx would store such a tensor on the network itself, and it would not follow a change of device or dtype.
        if isinstance(a, Tensor) and a not in self.tensor_attrs and not self._is_state(a):
            raise UntraceableError(
                f"its forward makes a tensor of shape {list(a.shape)} without the input: register it as a buffer"
            )
        return super().create_arg(a)

    def _is_state(self, tensor: Tensor) -> bool:
        return any(tensor is state for state in (*self.root.parameters(), *self.root.buffers()))


def computes_as_torchs(kind: type[nn.Module]) -> bool:
    """Return whether a class is one of torch's layers with nothing of its own in what it computes."""
    for each in kind.__mro__:
        if each.__module__.startswith("torch.nn.modules."):
            return each is not nn.Module and not issubclass(each, nn.Sequential)
        if not set(vars(each)) <= _NOT_COMPUTED:
            return False
    return False


def _make_out_of_place(graph: fx.Graph, network: nn.Module) -> None:
    """Rewrite the in-place operations of a graph; see `trace_pure`."""
    plain = find_plain_values(graph)
    position = {node: index for index, node in enumerate(graph.nodes)}
    storages: dict[fx.Node, frozenset[str]] = {}  # the memory that a node's value may live in
    for node in list(graph.nodes):
        written = _written_to(node, network)
        if written in plain:  # Python's numbers and tuples: `n *= 2` binds a new value to the name
            node.target = _OUT_OF_PLACE.get(node.target, node.target)
            continue
        if written is None:
            storages[node] = frozenset() if node in plain else _storages(node, network, storages)
            continue
        aliases = [other for other in storages if other is not written and storages[other] & storages[written]]
        _refuse_later_reads(node, aliases, position)
        owned = written.op not in ("placeholder", "get_attr") and not aliases
        kept = node.op == "call_module" and owned and len(written.users) == 1
        result = node if kept else _purify(graph, node, written)
        position[result] = position[node]
        for user in [user for user in written.users if position.get(user, -1) > position[node]]:
            user.replace_input_with(written, result)
        storages[result] = frozenset({result.name}) if kept else _storages(result, network, storages)
        if result is not node:
            node.replace_all_uses_with(result)
            graph.erase_node(node)


def _refuse_later_reads(node: fx.Node, aliases: list[fx.Node], position: dict[fx.Node, int]) -> None:
    """Refuse a write that is visible later through another node, such as the base of a view."""
    for alias in aliases:
        if any(position.get(user, -1) > position[node] for user in alias.users):
            raise UntraceableError(f"'{node.name}' writes in place into memory that '{alias.name}' may share")


def _written_to(node: fx.Node, network: nn.Module) -> fx.Node | None:
    """The node whose value an operation overwrites, or None."""
    if "out" in node.kwargs:
        raise UntraceableError(f"'{node.name}' writes into its argument 'out'")
    if node.op == "call_module":
        in_place = getattr(network.get_submodule(str(node.target)), "inplace", False) is True
    elif node.op == "call_method":
        in_place = str(node.target).endswith("_") and not str(node.target).endswith("__")
    elif node.op == "call_function":
        in_place = (
            node.target in _OUT_OF_PLACE
            or getattr(node.target, "__name__", "").endswith("_")
            or _without_inplace(node) is not None
        )
    else:
        in_place = False
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if in_place and isinstance(first, fx.Node) else None


def _without_inplace(node: fx.Node) -> inspect.BoundArguments | None:
    """The arguments of a call like ``relu(x, inplace=True)`` with the flag off, or None for any other call."""
    assert callable(node.target)
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):  # builtins without a signature
        return None
    if bound.arguments.get("inplace") is not True:
        return None
    bound.arguments["inplace"] = False
    return bound


def _storages(node: fx.Node, network: nn.Module, storages: dict[fx.Node, frozenset[str]]) -> frozenset[str]:
    """The names of the memory that a value may live in; `trace_pure`'s own nodes are looked through."""
    if node.target is _with_dtype_of:
        node = node.all_input_nodes[0]
    if node.op == "get_attr":
        return frozenset({f"attribute {node.target}"})
    if node.op == "placeholder":
        return frozenset({"input"})
    if node.op == "call_module":
        fresh = not isinstance(network.get_submodule(str(node.target)), _VIEWING_MODULES)
    else:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        fresh = _FRESH.fullmatch(name) is not None
    if fresh:
        return frozenset({node.name})
    return frozenset().union(*(storages.get(source, frozenset()) for source in node.all_input_nodes))


def _purify(graph: fx.Graph, node: fx.Node, written: fx.Node) -> fx.Node:
    """Insert, before an in-place operation, one with the same result that leaves the written value alone."""
    without_inplace = _without_inplace(node) if node.op == "call_function" else None
    with graph.inserting_before(node):
        if without_inplace is not None:
            return graph.create_node(node.op, node.target, without_inplace.args, without_inplace.kwargs)
        counterpart = _counterpart(node)
        if counterpart is not None:
            result = graph.create_node(node.op, counterpart, node.args, node.kwargs)
            return graph.call_function(_with_dtype_of, (result, written))
        clone = graph.call_method("clone", (written,))
        return graph.node_copy(node, lambda source: clone if source is written else source)


def _counterpart(node: fx.Node) -> Callable[..., Any] | str | None:
    """The operation that returns what an in-place operation writes, such as ``add`` for ``add_``."""
    if node.op == "call_function":
        return _OUT_OF_PLACE.get(node.target)  # type: ignore[arg-type]
    if node.op == "call_method":
        name = str(node.target).removesuffix("_")
        return name if callable(getattr(Tensor, name, None)) else None
    return None


def _copy_of(value: Any) -> Any:
    """Let a module that is called as a whole write into what it is given."""
    return value.clone() if isinstance(value, Tensor) else value


def _with_dtype_of(value: Tensor, written: Tensor) -> Tensor:
    """Round as the in-place operation did, which keeps the data type of what it writes to."""
    return value if value.dtype == written.dtype else value.to(written.dtype)
