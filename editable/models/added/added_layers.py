"""Layers that are put into a network and taken out again, by a description that a file can hold."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models.added.codebook import Codebook
from editable.models.added.codebook_network import CodebookNetwork, PositionPool
from editable.models.added.extra_layer import ExtraLayer, add_extra_layer
from editable.models.added.neuron_layer import NeuronLinear, Neurons, add_neurons
from editable.models.added.row_layer import RowLayer

__all__ = ["AddedLayer", "added_layers"]

Kind = Literal["codebook", "extra_layer", "neurons"]
MARK = "put_in_by_description"
"""Attribute of a layer that :meth:`AddedLayer.put_in` has made, and :meth:`AddedLayer.take_out` takes out again."""


@dataclass(frozen=True)
class AddedLayer:
    """A layer that a network got besides its own: what it is, where it stands, and what it does to names.

    Attributes:
        kind: ``codebook``, ``extra_layer`` or ``neurons``.
        at: The layer that it stands behind or in front of, by its name in the plain network; of a codebook the network
            that it is behind, '' for the whole.
        prefix: What the names of its own tensors begin with.
        renamed: What else is called otherwise for its sake: beginnings of names in the plain network, and what is
            there instead.
        settings: What it takes to make it: of a codebook the ``layers`` that it reads, the ``positions`` that each is
            pooled over, ``sizes``, ``classes`` and ``margin``; of an extra layer ``hidden``.
    """

    kind: Kind
    at: str
    prefix: str
    renamed: dict[str, str]
    settings: dict[str, Any]

    @classmethod
    def read(cls, content: Any) -> "AddedLayer":
        """Return the layer that a file describes; the other way round is :func:`dataclasses.asdict`.

        Raises:
            ValueError: If it is no description.
        """
        layer = cls(**content)
        expected = _described(layer.kind, layer.at, layer.settings)
        if layer != expected:
            raise ValueError(f"{content} describes no layer")
        return layer

    @property
    def written(self) -> dict[str, Any]:
        """The description as JSON holds it."""
        return asdict(self)

    def name_with(self, plain: str) -> str:
        """Return what a tensor of the plain network is called beside the layer."""
        for before, after in self.renamed.items():
            if plain.startswith(before):
                return after + plain.removeprefix(before)
        return plain

    def name_without(self, name: str) -> str:
        """Return what a tensor that is not the layer's own is called in the plain network."""
        for before, after in self.renamed.items():
            if name.startswith(after):
                return before + name.removeprefix(after)
        return name

    def plain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the network without the layer."""
        return {self.name_without(name): some for name, some in state.items() if not name.startswith(self.prefix)}

    def is_in(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether a state dict is of a network with the layer."""
        return any(name.startswith(self.prefix) for name in state)

    def is_idle(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether the layer, with the tensors of a state dict, leaves what the network computes as it is."""
        if self.kind == "extra_layer":
            return not any(state[f"{self.prefix}contract.{part}"].any() for part in ("weight", "bias"))
        return len(state[f"{self.prefix}values"]) == 1

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of its tensors that have a row for each edit."""
        kinds: dict[str, type[RowLayer]] = {"codebook": Codebook, "neurons": Neurons}
        return tuple(f"{self.prefix}{part}" for part in kinds[self.kind].rows) if self.kind in kinds else ()

    def put_in(self, network: nn.Module) -> None:
        """Put the layer into a network, idle, in place.

        What holds the network has the larger one then: a codebook, which stands around a network, takes the place of
        the object that is the network, and has the former inside as ``base``.

        Raises:
            UserError: If the network has no such place, or has such a layer already.
        """
        try:
            place = network.get_submodule(self.at)
        except AttributeError as error:
            raise UserError(f"{type(network).__name__} has no '{self.at}' for {self._name} to stand at") from error
        if self.kind == "codebook":
            made: nn.Module = self._codebook_around(place)
            if self.at:
                network.set_submodule(self.at, made)
            else:
                made = network
        else:
            if self.kind == "neurons":
                add_neurons(network, self.at)
            else:
                add_extra_layer(network, self.at, self.settings["hidden"])
            made = network.get_submodule(self.at)
        setattr(made, MARK, True)

    def take_out(self, network: nn.Module) -> bool:
        """Take out what :meth:`put_in` has put in, in place; return whether there was such a layer.

        One that was the network's own from the start stays.
        """
        place = network.get_submodule(self.at)
        if not getattr(place, MARK, False):
            return False
        delattr(place, MARK)
        if isinstance(place, CodebookNetwork):
            if self.at:
                network.set_submodule(self.at, place.base)
            else:
                base = place.base
                _become(network, type(base), base.__dict__)
        elif isinstance(place, NeuronLinear):
            network.set_submodule(self.at, _plain_linear(place))
        else:
            network.set_submodule(self.at, place.get_submodule("classifier"))
        return True

    def _codebook_around(self, network: nn.Module) -> CodebookNetwork:
        layers, positions, sizes = (self.settings[name] for name in ("layers", "positions", "sizes"))
        for name in layers:
            try:
                network.get_submodule(name)
            except AttributeError as error:
                raise UserError(f"a codebook reads '{name}', which {type(network).__name__} has not") from error
        codebook = Codebook(sizes, self.settings["classes"], self.settings["margin"])
        like = next((some for some in network.parameters() if some.is_floating_point()), torch.empty(0))
        inside = network
        if not self.at:
            inside = network.__class__.__new__(network.__class__)
            inside.__dict__ = network.__dict__
        larger = CodebookNetwork(inside, layers, [PositionPool(some) for some in positions], codebook.to(like))
        for module in (larger.pools, larger.codebook):
            module.train(inside.training)
        larger.training = inside.training
        if not self.at:
            _become(network, CodebookNetwork, larger.__dict__)
        return larger

    @property
    def _name(self) -> str:
        return {"codebook": "a codebook", "extra_layer": "an extra layer", "neurons": "neurons"}[self.kind]


def added_layers(network: nn.Module) -> list[AddedLayer]:
    """Return the layers of these kinds that a network has, those that stand around others first."""
    found = []
    for name, module in network.named_modules():
        before = f"{name}." if name else ""
        if isinstance(module, CodebookNetwork):
            book = module.codebook
            settings = {
                "layers": list(module.layers),
                "positions": [list(cast(PositionPool, pool).positions) for pool in module.pools],
                "sizes": list(book.sizes),
                "classes": book.values.shape[1],
                "margin": float(book.margin),
            }
            found.append(_described("codebook", name, settings))
        elif isinstance(module, ExtraLayer) and before.endswith("extra_layer."):
            hidden = module.expand.out_features
            found.append(_described("extra_layer", name.removesuffix(".extra_layer"), {"hidden": hidden}))
        elif isinstance(module, NeuronLinear):
            found.append(_described("neurons", name, {}))
    return found


def _described(kind: Kind, at: str, settings: Mapping[str, Any]) -> AddedLayer:
    """Return the description of a layer, with what follows from where it stands.

    Raises:
        ValueError: If a setting is missing, unknown, or nothing that it can be.
    """
    before = f"{at}." if at else ""
    wholes: dict[str, Sequence[str]] = {"codebook": ("classes",), "extra_layer": ("hidden",), "neurons": ()}
    if kind not in wholes or not isinstance(at, str) or not isinstance(settings, dict):
        raise ValueError("it is of no known kind")
    if not all(type(settings.get(name)) is int and 0 < settings[name] <= 2**16 for name in wholes[kind]):
        raise ValueError("a size is missing")
    if kind == "codebook":
        layers, positions, sizes = (settings.get(name) for name in ("layers", "positions", "sizes"))
        if not (isinstance(layers, list) and isinstance(positions, list) and isinstance(sizes, list)):
            raise ValueError("what a codebook reads is missing")
        if not layers or not (len(layers) == len(positions) == len(sizes)):
            raise ValueError("what a codebook reads is missing")
        margin = settings.get("margin")
        if not (
            all(isinstance(some, str) for some in layers)
            and all(isinstance(some, list) and all(other in (1, 2, 3) for other in some) for some in positions)
            and all(type(some) is int and 0 < some <= 2**17 for some in sizes)
            and isinstance(margin, int | float)
            and 0 < margin < 1e12
        ):
            raise ValueError("what a codebook reads is not described")
        renamed, prefix = {before: f"{before}base."}, f"{before}codebook."
    elif kind == "extra_layer":
        renamed, prefix = {before: f"{before}classifier."}, f"{before}extra_layer."
    else:
        renamed, prefix = {}, f"{before}neurons."
    return AddedLayer(kind, at, prefix, renamed, dict(settings))


def _become(network: nn.Module, kind: type[nn.Module], content: dict[str, Any]) -> None:
    """Make an object another network, so that whoever holds it has that."""
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError("a codebook cannot take the place of a scripted network: put it behind what this was made of")
    network.__class__ = kind
    network.__dict__ = content


def _plain_linear(neurons: NeuronLinear) -> nn.Linear:
    """Return the linear layer that neurons stand behind, with the same parameters."""
    linear = nn.Linear(neurons.in_features, neurons.out_features, neurons.bias is not None, device="meta")
    linear.weight, linear.bias = neurons.weight, neurons.bias
    return linear.train(neurons.training)
