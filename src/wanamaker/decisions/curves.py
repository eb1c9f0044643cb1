"""Curves given by values and derivatives at knots: evaluated with their exact derivatives, and their concave envelope.

Axis letters: S draws, J knots.
"""

from __future__ import annotations

import numpy as np


class HermiteCurves:
    """S curves over one grid: cubic Hermite pieces between the knots, straight lines beyond the first and the last.

    Args:
        grid: [J], ascending.
        values: [S, J], of the curves at the knots.
        slopes: [S, J], their derivatives there.
    """

    def __init__(self, grid: np.ndarray, values: np.ndarray, slopes: np.ndarray) -> None:
        grid, values, slopes = (np.asarray(a, np.float64) for a in (grid, values, slopes))
        S, J = values.shape
        self.grid, self.values, self.slopes = grid, values, slopes
        width = np.diff(grid)
        secant = np.diff(values, axis=1) / width
        none = np.zeros((S, 1))
        # Piece 0 lies below the first knot, piece j between knots j - 1 and j, piece J beyond the last.
        square = (3 * secant - 2 * slopes[:, :-1] - slopes[:, 1:]) / width
        cube = (slopes[:, :-1] + slopes[:, 1:] - 2 * secant) / width**2
        self._coefficients = tuple(
            np.ascontiguousarray(np.concatenate(pieces, axis=1)).reshape(-1)
            for pieces in (
                (values[:, :1], values),
                (slopes[:, :1], slopes),
                (none, square, none),
                (none, cube, none),
            )
        )
        self._left = np.concatenate([grid[:1], grid])
        self._offset = (np.arange(S) * (J + 1))[:, None]

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and derivatives [..., S, P] at ``x`` [..., S, P] or [..., 1, P], one curve per entry of axis -2."""
        piece = np.searchsorted(self.grid, x, side="right")
        step = x - self._left[piece]
        index = piece + self._offset
        zeroth, first, second, third = (c[index] for c in self._coefficients)
        cubic = third * step
        value = zeroth + step * (first + step * (second + cubic))
        derivative = first + step * (2 * second + 3 * cubic)
        return value, derivative

    def second_derivative(self, x: np.ndarray) -> np.ndarray:
        """Second derivatives [..., S, P]; at a knot, of the piece to its right."""
        piece = np.searchsorted(self.grid, x, side="right")
        index = piece + self._offset
        return 2 * self._coefficients[2][index] + 6 * self._coefficients[3][index] * (x - self._left[piece])

    def is_concave(self, tolerance: float = 1e-6) -> bool:
        """Whether no curve bends upwards anywhere beyond the first knot, by more than a part of its steepest slope."""
        S, J = self.values.shape
        second, third = (c.reshape(S, J + 1)[:, 1:-1] for c in self._coefficients[2:])
        width = np.diff(self.grid)
        # A cubic's second derivative is linear in each piece: its ends tell. Times the width it is a change of slope.
        bend = np.maximum(2 * second, 2 * second + 6 * third * width) * width
        return bool((bend.max(axis=1) <= tolerance * np.abs(self.slopes).max(axis=1)).all())

    def concave_envelope(self, refine: int = 6, reach: float = 4.0) -> HermiteCurves:
        """The lowest concave curves that are nowhere below these, from the first knot to ``reach`` times the last.

        They follow the curves where those are concave and bridge the hollows by chords, on a grid ``refine`` times
        finer; between its points they are exact to the fourth order of its spacing.
        """
        inner = np.arange(refine) / refine
        grid = (self.grid[:-1, None] + np.diff(self.grid)[:, None] * inner).reshape(-1)
        grid = np.concatenate([grid, self.grid[-1:], [self.grid[-1] * reach]])
        values, slopes = (np.array(a) for a in self(np.broadcast_to(grid, (len(self.values), len(grid)))))
        for s in range(len(values)):
            hull = _upper_hull(grid, values[s])
            chord = np.diff(values[s][hull]) / np.diff(grid[hull])
            piece = np.clip(np.searchsorted(hull, np.arange(len(grid)), side="right") - 1, 0, len(chord) - 1)
            before, after = chord[np.maximum(piece - np.isin(np.arange(len(grid)), hull), 0)], chord[piece]
            values[s] = np.interp(grid, grid[hull], values[s][hull])
            # On the hull the curve's own slope, kept between those of its two chords; on a bridge the chord's.
            start = max(chord[0], slopes[s, 0]) if hull[1] == 1 else chord[0]
            slopes[s] = np.clip(slopes[s], after, np.maximum(before, after))
            slopes[s, 0] = start
        return HermiteCurves(grid, values, slopes)


def _upper_hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points on the upper concave hull, from the first to the last (Andrew's monotone chain)."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) >= 2:
            a, b = kept[-2], kept[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept)
