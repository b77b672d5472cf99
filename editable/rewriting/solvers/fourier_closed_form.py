"""A rewrite by formula in the Fourier domain: solved for kernels as large as the map, and cut to the layer's own."""

import torch
from torch import Tensor

from editable.errors import UserError, require_not_negative
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.fourier_memory import SpectralMoments, cut_kernel, fourier_rewrite, place_kernel
from editable.rewriting.memory.memory import ConvGeometry, PatchMemory
from editable.rewriting.solvers.base import Progress, Solution, Solver

__all__ = ["FourierClosedForm"]

BATCH = 50  # images whose spectra are held at once


class FourierClosedForm(Solver):
    """The exact rewrite of a convolution with periodic borders and a kernel as large as the map, cut to a small kernel.

    The constraint is that of a patch memory, for all rules at once: the layer recalls V* for the mean patch K*. Its
    taps lie where the small kernel's do, so that cutting keeps it; that the layer changes least is true of the
    full-size kernel with periodic borders alone (Elango 2021, 3.3; see
    :func:`editable.rewriting.fourier_rewrite`). :class:`ClosedForm` with a patch memory solves for the small kernel
    itself, borders included.

    The second moment at each frequency is summed over the problem's reference images; their own second moment, of
    patches, is not used.

    Args:
        epsilon: Ridge, as a multiple of the mean eigenvalue over all frequencies.

    Raises:
        UserError: If epsilon is negative; when called, if the layer is no convolution of stride 1, the memory no patch
            memory, there are no reference images, or what the formula rejects.
    """

    uses_references = True

    def __init__(self, epsilon: float = 1e-4) -> None:
        require_not_negative(epsilon=epsilon)
        self.epsilon = epsilon

    def full_size_change(self, problem: RewriteProblem) -> Tensor:
        """Return the change before it is cut, δW, float64 [f, c, Q, R], on the CPU.

        Args:
            problem: What is asked for.

        Raises:
            UserError: As of a call.
        """
        geometry = _geometry(problem)
        size = (problem.exemplars.inputs.shape[-2], problem.exemplars.inputs.shape[-1])
        weight = problem.weight.detach().double()
        patches = problem.keys.T.unflatten(1, weight.shape[1:])
        keys, full = (place_kernel(kernels, geometry, size).cpu() for kernels in (patches, weight))
        moments = self._moments(problem, full)
        return fourier_rewrite(full, keys, problem.values.cpu(), moments, self.epsilon) - full

    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        change = cut_kernel(self.full_size_change(problem), _geometry(problem)).to(problem.weight.device)
        weight = (problem.weight.detach().double() + change).to(problem.weight.dtype)
        return Solution({problem.block.weight_name: weight}, [])

    @torch.no_grad()
    def _moments(self, problem: RewriteProblem, full: Tensor) -> SpectralMoments:
        images = problem.reference_images
        if images is None or not len(images):
            raise UserError("FourierClosedForm needs reference images, over which second moments are summed")
        filters, channels, height, width = full.shape
        moments = SpectralMoments(channels, filters, (height, width))
        for part in images.split(BATCH):
            inputs = problem.block.inputs(part.to(problem.weight)).cpu()
            moments.update(inputs, inputs.new_zeros(len(inputs), filters, *inputs.shape[2:]))
        return moments


def _geometry(problem: RewriteProblem) -> ConvGeometry:
    geometry = problem.block.geometry
    if geometry is None:
        raise UserError(f"FourierClosedForm needs a convolution, but '{problem.block.layer}' is a linear layer")
    if not isinstance(problem.memory, PatchMemory):
        raise UserError("FourierClosedForm needs keys that are patches of the layer's input: set architecture to patch")
    return geometry
