"""Split a network at its first editable parameters: what an edit cannot change is computed once."""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from editable.errors import UserError
from editable.models.finite import check_weights
from editable.models.logits import logits_of, say_what_is_taken
from editable.models.selection import is_quantised, select_parameters
from editable.models.split.agreement import disagreement
from editable.models.split.cut import cut, find_dependent
from editable.models.split.edit_form import SharedKernel, edit_form, kernels_of
from editable.models.split.modes import attention_for, evaluating, evaluation_mode
from editable.models.split.subgraph import as_function
from editable.models.split.tracing import trace_pure
from editable.models.tied import require_own_memory, tied_names

__all__ = ["Features", "SplitNetwork", "require_splittable"]

Features: TypeAlias = tuple[Tensor, ...]
"""What passes from the prefix to the suffix, one tensor or several, each [N, …]."""


class SplitNetwork:
    """A network in two halves: ``prefix`` cannot be changed by an edit, ``suffix`` can.

    The prefix holds every operation that does not depend on an editable parameter, also on side branches, and runs
    once per input; the suffix holds the rest and runs again for every step of an edit and every edited model:
    ``suffix(prefix(x), params)`` equals ``network(x)`` in evaluation mode bit for bit. Gradients flow through both,
    and the suffix works under `torch.func.vmap` over ``params``, under `torch.func.grad`, and twice differentiated.

    Both halves use the network's own parameters and buffers at the time of the call, so they stay right after
    ``network.to(…)``, ``load_state_dict`` and optimizer steps; ``params`` are applied by
    `torch.func.functional_call` and nothing is ever written to the network. Both compute in evaluation mode, whatever
    the mode of the network. Changing the network's structure, or its forward, calls for a new split.

    The halves are found by ``torch.fx``; modules that cannot be traced are called as a whole where nothing in them is
    editable. A network that cannot be traced for another reason is not divided: its features are its inputs, with a
    warning; nor is one whose halves give, on the first inputs, other logits than its plain forward (see
    `disagreement`), such as one with hooks of its own. In-place operations never change features or inputs, nor the
    result (see `tracing.trace_pure`). Where the values at the cut do not hold one row per input, as inside a
    sequence-first transformer, the first call of ``prefix`` moves the cut to earlier values. Hooks run where they
    hang on a module of ``torch.nn`` that is no container, or on one that is called as a whole; others ran once, during
    tracing.

    Attention is differentiable twice only by the kernel that ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``
    chooses; whoever differentiates the suffix twice sets it around the call, as editors do. Under a functorch transform
    such as ``vmap`` it is chosen here.

    It is a plain class, no module: as an attribute of one it adds nothing to its state dict. Deep copies and pickles
    trace the network again; a deep copy of an object that holds both network and split keeps them tied.

    Args:
        network: The network, called with one tensor ``[N, …]``, returning logits ``[N, C]``.
        patterns: Which parameters are editable; see `select_parameters`.

    Attributes:
        network: The network itself.
        names: The names of the editable parameters, in the network's order.

    Raises:
        UserError: If a pattern matches nothing, the network is compiled or scripted, no editable parameter has an
            influence on the output, one has numbers in common with another tensor, or weights are NaN or infinite.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> split = SplitNetwork(network, "2")
        >>> x = torch.randn(5, 2)
        >>> torch.equal(split.suffix(split.prefix(x), split.params), network(x))
        True
    """

    network: nn.Module
    names: tuple[str, ...]

    def __init__(self, network: nn.Module, patterns: str | Sequence[str]) -> None:
        require_splittable(network)
        self.network = network
        self.names = _each_once(network, select_parameters(network, patterns))
        check_weights(network, self.names)
        require_own_memory(network, self.names)
        _refuse_scripted(network, self.names)
        self._moved: frozenset[str] = frozenset()  # nodes of the prefix found unfit to be features, by `_check_cut`
        self._checked = False
        self._whole: str | None = None  # why the network is run as a whole although it can be traced
        self._build()

    @property
    def params(self) -> dict[str, nn.Parameter]:
        """The editable parameters by name: the network's own, not copies."""
        return {name: self.network.get_parameter(name) for name in self.names}

    def prefix(self, x: Tensor) -> Features:
        """Compute what no edit can change.

        Args:
            x: Inputs ``[N, …]``.

        Returns:
            The values that the suffix starts from, each ``[N, …]``; fit to be cached, indexed and concatenated along
            the first dimension.
        """
        if not self._checked:
            self._check_cut(x)
        with evaluating(self._halves.prefix.called):
            return self._halves.prefix(x)

    def edit_prefix(self, x: Tensor) -> Features:
        """Compute what ``prefix`` does, up to rounding, in the form whose gradients are cheap: see `edit_form`."""
        if not self._checked:
            self._check_cut(x)
        with evaluating(self._halves.edit_prefix.called):
            return self._halves.edit_prefix(x)

    def suffix(self, features: Features, params: Mapping[str, Tensor]) -> Tensor:
        """Compute logits from features with the given parameters in place of the network's own.

        Args:
            features: What ``prefix`` returned for ``N`` inputs, or rows of it.
            params: Editable parameters by name; those that are left out keep the network's own values.

        Returns:
            Logits ``[N, C]``.

        Raises:
            UserError: If ``params`` names a parameter that this split does not edit.
        """
        return self._run(self._halves.suffix, features, params)

    def edit_suffix(self, features: Features, params: Mapping[str, Tensor]) -> Tensor:
        """Compute what ``suffix`` does, up to rounding, in the form whose gradients are cheap: see `edit_form`."""
        return self._run(self._halves.edit_suffix, features, params)

    def unrolled_suffix(self) -> Callable[[Features, Mapping[str, Tensor]], Tensor]:
        """Return ``edit_suffix`` for one unrolled edit: the gradients of kernels that it leaves alone wait for its end.

        All calls belong to one graph. The inner gradients must not ask for those kernels, and the gradient through all
        steps must not be differentiated again: see `DeferredWeight`.
        """
        editable = {slot for slots in self._slots.values() for slot in slots}
        kernels = {f"network.{name}": self.network.get_parameter(name) for name in self._halves.kernels}
        shared = {
            slot: SharedKernel.of(kernel)
            for slot, kernel in kernels.items()
            if slot not in editable and kernel.requires_grad and kernel.device.type == "cpu"
        }
        return lambda features, params: self._run(self._halves.edit_suffix, features, params, shared)

    def copy_suffix(self) -> tuple[nn.Module, dict[str, str]]:
        """Copy the suffix as it is now into a module of its own, to be rewritten.

        Returns:
            The module, in evaluation mode, which computes logits from features with parameters of its own, and the
            name in ``params`` for each of its parameters that is editable.
        """
        graph = self._halves.suffix_graph
        original = self._halves.suffix if graph is None else fx.GraphModule(self.network, graph)
        tied = {name: _tied_parameters(self.network, name) for name in self.names}
        names = {self.network.get_parameter(other): name for name, others in tied.items() for other in others}
        places = {
            f"{prefix}.{name}" if prefix else name: names[parameter]
            for prefix, module in original.named_modules()  # once each, as in `_find_slots`
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
            if parameter in names
        }
        # Weights that a hook computes before each call cannot be copied with their history, nor need to be.
        computed = (value for module in original.modules() for value in vars(module).values() if _has_history(value))
        return copy.deepcopy(original, {id(value): value.detach() for value in computed}).eval(), places

    def features_depend_on(self, names: Iterable[str]) -> bool:
        """Return whether features that were kept are those of other weights once some, by name, have other values."""
        return any(name in self._halves.prefix.read or self._is_called(name) for name in names)

    def require_editable(self, names: Iterable[str]) -> None:
        """Raise a `UserError` that names the first of some parameters that this split does not edit."""
        unknown = sorted(set(names) - self._slots.keys())
        if unknown:
            raise UserError(f"{unknown[0]!r} is not editable in this split, which edits {', '.join(self.names)}")

    def require_gradients(self) -> None:
        """Raise a `UserError` where a quantised module behind the editable parameters keeps gradients from them."""
        if self._halves.suffix_graph is None:  # what lies behind them is not known
            return
        called = set(self._halves.suffix.called)
        quantised = [name for name, module in self.network.named_modules() if module in called and is_quantised(module)]
        if quantised:
            raise UserError(
                f"no gradient reaches {self.names[0]!r}, as {quantised[0]!r} behind it is quantised: edit layers "
                "behind that, or the network before it is quantised"
            )

    def _is_called(self, name: str) -> bool:
        module = self.network.get_submodule(name.rpartition(".")[0])
        return any(module is some for some in self._halves.prefix.called)

    def _run(
        self,
        half: "_Half",
        features: Features,
        params: Mapping[str, Tensor],
        others: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        self.require_editable(params)
        state = {slot: tensor for name, tensor in params.items() for slot in self._slots[name]} | dict(others or {})
        if self._halves.suffix_graph is None:  # a forward that counts its calls, or such, writes into copies
            state |= {name: buffer.clone() for name, buffer in half.named_buffers() if name not in state}
        with evaluating(half.called), attention_for(_are_vectorised(params.values())):
            return functional_call(half, state, features, tie_weights=False)

    def __getstate__(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("network", "names", "_moved", "_checked", "_whole")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the original has warned
            self._build()

    def _build(self) -> None:
        self._slots = _find_slots(self.network, self.names)
        names = list(self._slots)  # with those of tied parameters
        self._halves = _undivided(self.network) if self._whole else _halve(self.network, names, self._moved)

    def _check_cut(self, x: Tensor) -> None:
        """Move the cut to earlier values until every feature is a tensor with one row per input."""
        while True:
            unfit = set()
            for batch in (1, 2):  # a dimension that equals the batch size twice is no coincidence
                with torch.no_grad(), evaluation_mode(self.network):
                    features = self._halves.prefix(x.new_zeros((batch, *x.shape[1:])))
                unfit |= {n for n, f in zip(self._halves.features, features, strict=True) if not _has_rows(f, batch)}
            if not unfit:
                break
            self._moved |= unfit
            self._build()
        self._checked = True
        if self._halves.suffix_graph is not None:
            self._check_agreement(x)

    def _check_agreement(self, x: Tensor) -> None:
        """Compare both halves with the plain network on the first inputs; run it as a whole where they differ."""
        cause = disagreement(self.network, lambda some: self.suffix(self.prefix(some), {}), x)
        if cause is not None:
            self._whole = cause
            self._build()
            _warn_whole(self.network, f"computes something else when traced by torch.fx ({cause})")


class _Half(nn.Module):
    """Gives `functional_call` a module to call whose forward is a half of the network."""

    def __init__(self, network: nn.Module, function: Callable[..., Any], graph: fx.Graph | None = None) -> None:
        super().__init__()
        self.network = network
        self.function = function
        # The modules whose mode matters: those that the graph calls, however large the rest of the network is.
        called = [network] if graph is None else _called_modules(network, graph)
        self.called = [module for parent in called for module in parent.modules()]
        self.read = {str(node.target) for node in (graph.nodes if graph else ()) if node.op == "get_attr"}

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.network, *inputs)


class _Halves(NamedTuple):
    """The two halves of a network."""

    prefix: _Half
    edit_prefix: _Half
    suffix: _Half
    edit_suffix: _Half
    features: tuple[str, ...]  # names of the graph's nodes at the cut
    suffix_graph: fx.Graph | None = None  # None where the network cannot be traced
    kernels: tuple[str, ...] = ()  # that ``edit_suffix`` convolves with


def _called_modules(network: nn.Module, graph: fx.Graph) -> list[nn.Module]:
    return [network.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"]


def require_splittable(network: nn.Module) -> None:
    """Raise a `UserError` where a network is compiled or scripted, so that it cannot run with other parameters."""
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(
            "cannot split a scripted network (it comes from torch.jit), whose parameters cannot be replaced for the "
            "time of a call: give the original network"
        )
    for name, module in network.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            where = f"its module {name!r}" if name else type(network).__name__
            raise UserError(
                f"cannot split a compiled network ({where} was given to torch.compile): split the original network"
            )


def _refuse_scripted(network: nn.Module, names: Sequence[str]) -> None:
    for name, module in network.named_modules():
        inside = [some for some in names if isinstance(module, torch.jit.ScriptModule) and some.startswith(f"{name}.")]
        if inside:
            raise UserError(
                f"{inside[0]!r} cannot be edited, as {name!r} is scripted (it comes from torch.jit): give the original "
                "module, or edit other layers"
            )


def _find_slots(network: nn.Module, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names, inside a `_Half`, of all places that hold each parameter: tied weights have several.

    A module that is found under two names is one place: `functional_call` would restore it wrongly if given twice. Tied
    weights may be one parameter or several that share their memory; each of their names stands for all.
    """
    places: dict[nn.Parameter, list[str]] = {}
    for prefix, module in network.named_modules(prefix="network"):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(parameter, []).append(f"{prefix}.{name}")
    slots: dict[str, tuple[str, ...]] = {}
    for name in names:
        tied = _tied_parameters(network, name)
        distinct = dict.fromkeys(network.get_parameter(other) for other in tied)
        slots |= dict.fromkeys(tied, tuple(place for parameter in distinct for place in places[parameter]))
    return slots


def _tied_parameters(network: nn.Module, name: str) -> list[str]:
    """Return all names of a parameter, and of those that share its memory; the given one first."""
    parameters = {some for some, _ in network.named_parameters(remove_duplicate=False)}
    return list(dict.fromkeys([name, *(some for some in tied_names(network).get(name, ()) if some in parameters)]))


def _each_once(network: nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """Return names without those of parameters that share their memory with an earlier one."""
    tied = tied_names(network)
    kept: list[str] = []
    for name in names:
        if not set(tied.get(name, ())) & set(kept):
            kept.append(name)
    return tuple(kept)


def _are_vectorised(params: Iterable[Tensor]) -> bool:
    return any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in params)


def _has_history(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_leaf


def _has_rows(feature: Any, batch: int) -> bool:
    return isinstance(feature, Tensor) and feature.ndim > 0 and feature.shape[0] == batch


def _halve(network: nn.Module, names: Sequence[str], moved: frozenset[str]) -> _Halves:
    try:
        with evaluation_mode(network):  # dropout and stochastic depth record the mode that they are traced in
            graph = trace_pure(network, names)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        _warn_whole(network, f"cannot be traced by torch.fx ({reason})")
        return _undivided(network)
    prefix, suffix, features = cut(graph, find_dependent(graph, network, names), moved)
    graphs = (prefix, edit_form(prefix, network), suffix, edit_form(suffix, network))
    first, edit_first, second, edit_second = (_Half(network, as_function(network, graph), graph) for graph in graphs)
    return _Halves(first, edit_first, second, edit_second, features, suffix, kernels_of(graphs[-1]))


def _undivided(network: nn.Module) -> _Halves:
    whole = _Half(network, _whole_network)
    nothing = _Half(network, _no_prefix, fx.Graph())
    return _Halves(nothing, nothing, whole, whole, ("x",))


def _warn_whole(network: nn.Module, why: str) -> None:
    warnings.warn(
        f"{type(network).__name__} {why}, so none of it is computed ahead: the whole network runs again for every step "
        "of an edit and every edited model",
        UserWarning,
        stacklevel=5,
    )


def _no_prefix(network: nn.Module, x: Tensor) -> Features:
    return (x,)


def _whole_network(network: nn.Module, x: Tensor) -> Tensor:
    output = network(x.clone())  # the network may write into its input, which is a cached feature here
    say_what_is_taken(network, output)
    return logits_of(output)
