r"""A convolution with periodic borders as a memory: least squares, also with constraints, frequency by frequency.

Kernels are as large as the map, W [f, c, Q, R]. As in torch, a layer correlates: output p is Σ W[o] A[p + o], indices
modulo Q and R. By the discrete Fourier transform, V̂(ω) = H(ω) Â(ω), where H(ω) [f, c] is the complex conjugate of
Ŵ(ω); for a true convolution it would be Ŵ(ω) itself. Each frequency is then a linear memory of its own.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_not_negative, require_side, require_width
from editable.rewriting.memory.memory import ConvGeometry

__all__ = [
    "SpectralMoments",
    "Truncation",
    "correlate_periodically",
    "cut_kernel",
    "fourier_least_squares",
    "fourier_rewrite",
    "place_kernel",
    "truncate_kernel",
]


class SpectralMoments:
    r"""Second moments of inputs, and of values with inputs, for each frequency, summed over a stream of maps.

    .. math:: S_{AA}(\omega) = \sum \hat A \hat A^H, \qquad S_{VA}(\omega) = \sum \hat V \hat A^H

    Half of the frequencies are held, Q × (R // 2 + 1), for those of real maps come in conjugate pairs.

    Args:
        channels: c, of the inputs.
        filters: f, of the values.
        size: Height and width (Q, R) of both maps.

    Attributes:
        inputs: S_AA, complex128 [Q, R // 2 + 1, c, c].
        cross: S_VA, complex128 [Q, R // 2 + 1, f, c].
        values_square: Σ ‖V‖², over samples, filters and positions.
        count: Number of samples.

    Raises:
        UserError: If a number is below 1.
    """

    def __init__(self, channels: int, filters: int, size: tuple[int, int]) -> None:
        require_width(channels=channels, filters=filters)
        for side in size:
            require_side(size=side)
        self.channels, self.filters, self.size = channels, filters, size
        frequencies = (size[0], size[1] // 2 + 1)
        self.inputs = torch.zeros(*frequencies, channels, channels, dtype=torch.complex128)
        self.cross = torch.zeros(*frequencies, filters, channels, dtype=torch.complex128)
        self.values_square, self.count = 0.0, 0

    @torch.no_grad()
    def update(self, inputs: Tensor, values: Tensor) -> None:
        """Add samples, in float64; nothing is changed where an error is raised.

        Args:
            inputs: A [N, c, Q, R].
            values: What the layer shall put out without its bias, V [N, f, Q, R].

        Raises:
            UserError: If shapes do not fit, or a value is NaN or infinite.
        """
        for name, maps, channels in (("inputs", inputs, self.channels), ("values", values, self.filters)):
            if maps.ndim != 4 or len(maps) != len(inputs) or maps.shape[1:] != (channels, *self.size):
                raise UserError(f"{name} must be [N, {channels}, {self.size[0]}, {self.size[1]}], got {[*maps.shape]}")
            if not maps.isfinite().all():
                raise UserError(f"{name} must be finite, and these hold NaN or infinite values")
        if not len(inputs):
            return
        columns, targets = (_spectrum(maps).permute(2, 3, 1, 0) for maps in (inputs, values))
        self.inputs += columns @ columns.mH
        self.cross += targets @ columns.mH
        self.values_square += float(values.double().square().sum())
        self.count += len(inputs)

    def squared_error(self, weight: Tensor) -> float:
        """Return Σ ‖V − W ⋆ A‖² over samples, filters and positions of a kernel W [f, c, Q, R]."""
        _check_kernel(weight, self)
        transfer = _transfer(weight)
        quadratic = ((transfer @ self.inputs) * transfer.conj()).sum((-2, -1))
        linear = (self.cross * transfer.conj()).sum((-2, -1))
        return self.values_square + float(_mean_over_frequencies(quadratic - 2 * linear, self.size))


def fourier_least_squares(moments: SpectralMoments, epsilon: float = 0.0) -> Tensor:
    r"""Return the full-size kernel that recalls values with least squared error, borders being periodic.

    .. math:: \min_W \sum \lVert V - W \star A \rVert^2 + \rho \lVert W \rVert^2:
       \qquad H(\omega) = S_{VA} (S_{AA} + \rho I)^{-1}, \quad \hat W = \overline{H}

    a matrix inverse for each frequency (Elango 2021, 3.42, which holds for one channel only).

    Args:
        moments: Of inputs and values.
        epsilon: Ridge ρ as a multiple of the mean diagonal entry of S_AA over channels and frequencies.

    Returns:
        W, float64 [f, c, Q, R].

    Raises:
        UserError: If S_AA + ρI is singular at a frequency, as it is for ρ = 0 with fewer samples than channels, or
            epsilon is negative.
    """
    return _kernel(_solve(moments, moments.cross.mH, epsilon).mH, moments.size)


def fourier_rewrite(
    weight: Tensor, keys: Tensor, values: Tensor, moments: SpectralMoments, epsilon: float = 0.0
) -> Tensor:
    r"""Return the full-size kernel that recalls new values for some keys and otherwise changes its outputs least.

    .. math:: \min_W \sum \lVert (W - W_0) \star A \rVert^2 + \rho \lVert W - W_0 \rVert^2
       \text{ subject to } \langle W_f, u_s \rangle = v_{fs}: \qquad
       \delta H(\omega) = \Lambda\, \hat U^H (S_{AA} + \rho I)^{-1}, \\
       \Lambda = (V_* - \langle W_0, U \rangle)
       \Bigl( \frac{1}{QR} \sum_\omega \hat U^H (S_{AA} + \rho I)^{-1} \hat U \Bigr)^{-1}

    With W₀ the kernel of least squared error it is that of least squared error subject to the constraint. The û of
    Elango 2021, 3.57, is real, for the key k* at all taps of a centred kernel, and needs no conjugate; others do.

    Args:
        weight: W₀ [f, c, Q, R].
        keys: U, what the kernel lies on, [S, c, Q, R]; of a smaller kernel's patches :func:`place_kernel` makes them.
        values: V* [f, S].
        moments: Of the inputs; values do not matter.
        epsilon: As of :func:`fourier_least_squares`.

    Returns:
        W₁, float64 [f, c, Q, R].

    Raises:
        UserError: If shapes do not fit, something is not finite, keys depend on each other, S_AA + ρI is singular at a
            frequency, or epsilon is negative.
    """
    _check_kernel(weight, moments)
    _check_constraints(keys, values, moments)
    spectra = _spectrum(keys).permute(2, 3, 1, 0)
    directions = _solve(moments, spectra, epsilon)
    products = _mean_over_frequencies(spectra.mH @ directions, moments.size)
    if torch.linalg.matrix_rank(products, hermitian=True) < len(keys):
        raise UserError(f"the {len(keys)} keys are zero or linearly dependent: their values cannot be chosen freely")
    missing = values.double() - _recall(weight, keys)
    coefficients = torch.linalg.solve(products, missing, left=False)
    return weight.double() + _kernel(coefficients.to(directions) @ directions.mH, moments.size)


def correlate_periodically(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the output of a full-size kernel with periodic borders, without a bias.

    Args:
        inputs: A [N, c, Q, R].
        weight: W [f, c, Q, R].

    Returns:
        float64 [N, f, Q, R].
    """
    outputs = torch.einsum("fcqr,ncqr->nfqr", _spectrum(weight).conj(), _spectrum(inputs))
    return torch.fft.irfft2(outputs, s=inputs.shape[-2:])


def place_kernel(kernel: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
    """Put a small kernel, or a patch that it lies on, into a full-size one, with zeros around it.

    ``correlate_periodically`` of it is the layer with its padding filled periodically. The key k* [c] at all taps,
    k* ⊗ 1, is ``place_kernel(key[:, None, None].expand(-1, m, n), …)``.

    Args:
        kernel: […, m, n].
        geometry: How the kernel moves; its stride must be 1.
        size: Height and width (Q, R) of the map.

    Returns:
        […, Q, R], the tap that lies on the output's own pixel first, those above and to the left of it at the end.

    Raises:
        UserError: If the kernel is wider than the map, has another size than the geometry says, or moves by more than
            one pixel.
    """
    if tuple(kernel.shape[-2:]) != tuple(geometry.kernel_size):
        raise UserError(f"a kernel [..., {', '.join(map(str, geometry.kernel_size))}] is needed, got {[*kernel.shape]}")
    rows, columns = _tap_places(geometry, size)
    full = kernel.new_zeros(*kernel.shape[:-2], *size)
    full[..., rows[:, None], columns] = kernel
    return full


def cut_kernel(weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """Return the taps [..., m, n] of a full-size kernel [..., Q, R] where a small one lies; see :func:`place_kernel`.

    Raises:
        UserError: As of :func:`place_kernel`.
    """
    rows, columns = _tap_places(geometry, (weight.shape[-2], weight.shape[-1]))
    return weight[..., rows[:, None], columns]


class Truncation(NamedTuple):
    """A small kernel cut out of a full-size one, and what that costs with periodic borders.

    Attributes:
        weight: [f, c, m, n].
        error_before: Σ ‖V − W ⋆ A‖² of the full-size kernel, as a fraction of Σ ‖V‖².
        error: The same of the small one; the difference is the excess.
        residual_before: ‖⟨W, U⟩ − V*‖ / ‖V*‖ of the full-size kernel; none without constraints.
        residual: The same of the small one.
    """

    weight: Tensor
    error_before: float
    error: float
    residual_before: float | None = None
    residual: float | None = None

    @property
    def excess(self) -> float:
        """Squared error that cutting the kernel has added, as a fraction of Σ ‖V‖²."""
        return self.error - self.error_before


def truncate_kernel(
    weight: Tensor,
    geometry: ConvGeometry,
    moments: SpectralMoments,
    keys: Tensor | None = None,
    values: Tensor | None = None,
) -> Truncation:
    """Cut a full-size kernel down to a layer's own size, and measure what is lost.

    The small kernel is not the one of least squared error among its size, unless the full-size one was zero elsewhere,
    and with constraints it may be far from it; for that see :func:`editable.rewriting.patch_least_squares`. Constraints
    whose keys lie where the small kernel does are still met, those of wider keys are not.

    Args:
        weight: W [f, c, Q, R].
        geometry: Of the layer.
        moments: Of inputs and values that errors are measured on.
        keys: U [S, c, Q, R], of constraints.
        values: V* [f, S].

    Raises:
        UserError: If shapes do not fit, only one of keys and values is given, or as of :func:`place_kernel`.
    """
    _check_kernel(weight, moments)
    if (keys is None) != (values is None):
        raise UserError("constraints are keys with values: give both, or neither")
    small = cut_kernel(weight, geometry)
    kernels = (weight, place_kernel(small, geometry, moments.size))
    before, after = (moments.squared_error(kernel) / (moments.values_square or 1.0) for kernel in kernels)
    if keys is None or values is None:
        return Truncation(small, before, after)
    _check_constraints(keys, values, moments)
    residuals = ((_recall(kernel, keys) - values).norm() / (values.norm() if values.any() else 1) for kernel in kernels)
    return Truncation(small, before, after, *map(float, residuals))


def _spectrum(maps: Tensor) -> Tensor:
    """Return the discrete Fourier transform of real maps [..., Q, R] at the frequencies held, complex128."""
    return torch.fft.rfft2(maps.double())


def _transfer(weight: Tensor) -> Tensor:
    """Return H of a kernel, [Q, R // 2 + 1, f, c]."""
    return _spectrum(weight).conj().permute(2, 3, 0, 1)


def _kernel(transfer: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the kernel [f, c, Q, R] of a transfer function; the inverse of `_transfer`."""
    return torch.fft.irfft2(transfer.conj().permute(2, 3, 0, 1), s=size)


def _mean_over_frequencies(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (1/QR) Σ over all frequencies, of which the first two dimensions hold those of a real signal."""
    return torch.fft.irfft2(spectrum, s=size, dim=(0, 1))[0, 0]


def _recall(weight: Tensor, keys: Tensor) -> Tensor:
    """Return ⟨W_f, u_s⟩, float64 [f, S]."""
    return weight.double().flatten(1) @ keys.double().flatten(1).T


def _solve(moments: SpectralMoments, right: Tensor, epsilon: float) -> Tensor:
    """Return (S_AA + ρI)⁻¹ times [Q, R // 2 + 1, c, …]."""
    require_not_negative(epsilon=epsilon)
    traces = moments.inputs.diagonal(dim1=-2, dim2=-1).sum(-1)
    mean = float(_mean_over_frequencies(traces, moments.size)) / moments.channels
    eigenvalues, vectors = torch.linalg.eigh(moments.inputs)
    eigenvalues = eigenvalues.clamp(min=0) + epsilon * mean
    # What rounding leaves: of this frequency's second moment, and of amplitudes next to those of other frequencies.
    eps, largest = torch.finfo(torch.float64).eps, eigenvalues[..., -1]
    others = moments.size[0] * moments.size[1] * eps * largest.max()
    singular = eigenvalues[..., 0] <= moments.channels * eps * torch.maximum(largest, others)
    if singular.any():
        row, column = singular.nonzero()[0].tolist()
        raise UserError(
            f"S_AA, over {moments.count} samples of {moments.channels} channels, is singular at frequency "
            f"({row}, {column}) and {int(singular.sum()) - 1} others: give at least as many samples as channels, and "
            "maps that hold every frequency, or an epsilon above 0"
        )
    return vectors @ ((vectors.mH @ right) / eigenvalues[..., None])


def _tap_places(geometry: ConvGeometry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the row of each row of taps in a full-size kernel, and the column of each column."""
    if geometry.stride != (1, 1):
        raise UserError(
            f"a layer of stride {'×'.join(map(str, geometry.stride))} is no convolution of whole maps: full-size "
            "kernels need stride 1"
        )
    for span, length in zip(geometry.span, size, strict=True):
        if span >= length:
            raise UserError(f"a kernel that reaches over {span + 1} pixels does not fit into a map of {length}")
    kernel, _, padding, dilation = geometry
    rows, columns = (
        (torch.arange(taps) * step - before) % length
        for taps, step, before, length in zip(kernel, dilation, padding, size, strict=True)
    )
    return rows, columns


def _check_kernel(weight: Tensor, moments: SpectralMoments) -> None:
    wanted = (moments.filters, moments.channels, *moments.size)
    if tuple(weight.shape) != wanted:
        raise UserError(f"a full-size kernel must be {[*wanted]} here, got {[*weight.shape]}")


def _check_constraints(keys: Tensor, values: Tensor, moments: SpectralMoments) -> None:
    wanted = (moments.channels, *moments.size)
    if keys.ndim != 4 or keys.shape[1:] != wanted or values.shape != (moments.filters, len(keys)) or not len(keys):
        raise UserError(
            f"constraints need keys [S, {', '.join(map(str, wanted))}] and values [{moments.filters}, S], got "
            f"{[*keys.shape]} and {[*values.shape]}"
        )
    if not (keys.isfinite().all() and values.isfinite().all()):
        raise UserError("keys and values must be finite, and these hold NaN or infinite values")
