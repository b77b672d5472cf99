"""Gradient edits in the metric of what a layer reads: its weights in coordinates in which the keys are white."""

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from editable.editing.editors.base import BaseEditor, ForwardFunction, Inputs
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.editing.editors.wrapper import EditorWrapper
from editable.errors import UserError, require_at_least, require_not_negative
from editable.rewriting import (
    Architecture,
    InverseMoment,
    LayerBlock,
    Memory,
    Regularisation,
    collect_second_moment,
    make_memory,
)

__all__ = ["PreconditionedEditor"]

INNER, BASE = "editor.", "base."
"""Begin the names of the wrapped editor's tensors, and of the weights at the stream's beginning, in the state."""


class PreconditionedEditor(EditorWrapper):
    r"""Lets another editor change linear and convolutional weights in coordinates V in which their keys are white.

    .. math:: W = W_0 + V C^{-1/2}, \qquad ∇_V = ∇_W C^{-1/2}

    with W the weight as a matrix on keys, and C their second moment over reference images. A change of V moves the
    layer's output on such images by ‖V‖² in the mean, so that all directions of V are equally harmful: gradient descent
    in V is W ← W − α ∇_W C⁻¹, preconditioned as in K-FAC (Martens and Grosse, ICML 2015) and in the metric of rewriting
    (Bau et al., ECCV 2020); signs, mean squares and norms of any other rule are those of V, and so is the ball of a
    :class:`~editable.editing.BallEditor`. The learning rate is in units of V: of other size than the wrapped editor's
    alone.

    Whatever else is editable, biases and BatchNorm among it, is left as it is, since nothing bounds its harm. Layers
    that are no memory, such as convolutions in groups, are left too, with a warning.

    Args:
        editor: One that goes by gradients: of the parameters it is given, whatever they are.
        architecture: What the keys of a convolution are; ``pixel`` [c], the same for all taps of the kernel, or
            ``patch`` [c·m·n]; see :func:`editable.rewriting.make_memory`.
        epsilon: Added to each eigenvalue of C, relative to their mean.
        num_references: Number of images, neither edited nor judged, over which C is collected; they run through the
            network once for each layer.

    Raises:
        UserError: If a number is out of its range, the editor looks at the place's weights itself, or, at a place, no
            layer can be preconditioned.
    """

    def __init__(
        self,
        editor: BaseEditor,
        architecture: Architecture = "pixel",
        epsilon: float = 1e-4,
        num_references: int = 5000,
    ) -> None:
        if type(editor).at is not BaseEditor.at:
            raise UserError(
                f"{type(editor).__name__} works on the weights of its place, which it would not see in other "
                "coordinates: wrap an editor that goes by gradients alone, such as Editor"
            )
        super().__init__(editor)
        make_memory((1, 1), None, architecture)  # refuses another one
        require_not_negative(epsilon=epsilon)
        require_at_least(1, num_references=num_references)
        self.architecture, self.epsilon, self.num_references = architecture, epsilon, num_references
        self._roots: dict[str, tuple[Memory, Tensor]] = {}

    def at(self, site: EditSite) -> "PreconditionedEditor":
        """Return the editor with C^{-1/2} of each layer's keys; see :meth:`BaseEditor.at`."""
        network = site.split.network
        roots, refused = {}, []
        for name in site.split.names:
            layer, _, part = name.rpartition(".")
            if part != "weight" or not isinstance(network.get_submodule(layer), nn.Linear | nn.Conv2d):
                continue
            try:
                block = LayerBlock(network, layer)
            except UserError as error:
                refused.append(str(error))
                continue
            memory = make_memory(tuple(block.weight.shape), block.geometry, self.architecture)
            moment = collect_second_moment(block, memory, site.image_batches(self.num_references))
            inverse = InverseMoment(moment, Regularisation(epsilon=self.epsilon))
            roots[name] = memory, inverse.whiten(torch.eye(memory.key_size, dtype=torch.float64)).to(site.device)
        if not roots:
            raise UserError(
                "no linear or convolutional weight can be preconditioned among "
                f"{', '.join(site.split.names)}{': ' + refused[0] if refused else ''}"
            )
        if refused:
            warnings.warn(
                f"{len(refused)} of {len(refused) + len(roots)} layers are left as they are: {refused[0]}",
                UserWarning,
                stacklevel=2,
            )
        editor = self._around(self.editor)
        editor._roots = roots
        return editor

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit; see :meth:`BaseEditor.forward`."""
        start = self._zero(params)
        weights = self._weights(params, start, differentiable)
        result = self.editor(_at(forward, weights), start, inputs, targets, differentiable)
        return result._replace(params=_detached(weights(result.params), differentiable))

    def edit_many(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make E edits as the wrapped editor does, at once if it can; see :meth:`BaseEditor.edit_many`."""
        start = self._zero(params)
        weights = self._weights(params, start, differentiable)
        result = self.editor.edit_many(_at(forward, weights), start, inputs, targets, differentiable)
        return result._replace(params=_detached(torch.func.vmap(weights)(result.params), differentiable))

    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream, in coordinates around its beginning; see :meth:`BaseEditor.extend`."""
        start = self._zero(params)
        base = {BASE + name: state[BASE + name] if state else params[name].detach().clone() for name in start}
        if state:
            start = {name: self._coordinates(name, params[name].detach() - base[BASE + name]) for name in start}
        inner = {name.removeprefix(INNER): some for name, some in state.items() if name.startswith(INNER)}
        weights = self._weights(params, start, differentiable=False)
        result, following = self.editor.extend(_at(forward, weights), start, inputs, targets, inner)
        edited = result._replace(params=_detached(weights(result.params), differentiable=False))
        return edited, {**base, **{INNER + name: some for name, some in following.items()}}

    def _zero(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return V = 0 for each weight that is preconditioned, [value size, key size]."""
        if not self._roots:
            raise UserError("PreconditionedEditor needs second moments of the layers' keys: call at(EditSite(…)) first")
        start = {
            name: params[name].detach().new_zeros(memory.value_size, memory.key_size)
            for name, (memory, _) in self._roots.items()
            if name in params
        }
        if params and not start:
            raise UserError(
                f"the second moments are those of {', '.join(self._roots)}, none of which is among the parameters "
                f"{', '.join(params)}"
            )
        return start

    def _weights(
        self, params: Mapping[str, Tensor], start: Mapping[str, Tensor], differentiable: bool
    ) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
        """Return what gives parameters W + (V − V₀) C^{-1/2} for coordinates V; for V₀, W to the bit."""
        own = {name: param if differentiable else param.detach() for name, param in params.items()}
        roots = {name: self._roots[name][1].to(own[name]) for name in start}

        def weights(coordinates: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: own[name] + self._roots[name][0].weight((coordinates[name] - start[name]) @ roots[name])
                if name in roots
                else own[name].clone()
                for name in own
            }

        return weights

    def _coordinates(self, name: str, change: Tensor) -> Tensor:
        """Return V of a change of a weight."""
        memory, root = self._roots[name]
        return torch.linalg.solve(root, memory.matrix(change).to(root), left=False).to(change)


def _at(forward: ForwardFunction, weights: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]) -> ForwardFunction:
    """Return a forward function of coordinates."""
    return lambda inputs, coordinates: forward(inputs, weights(coordinates))


def _detached(params: dict[str, Tensor], differentiable: bool) -> dict[str, Tensor]:
    return params if differentiable else {name: param.detach() for name, param in params.items()}
