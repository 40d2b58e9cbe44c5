"""The picture that a signature remembers, one number at a time; `signature.preview` agrees exactly."""

from __future__ import annotations

SIDE = 128
SHRINK = 0.7071


def inverse(plane: list[list[float]]) -> list[list[float]]:
    """Return the channel whose coefficients are given: undo the columns, then the rows."""
    whole = [list(row) for row in plane]
    whole[0][0] *= 256 * SIDE
    columns = [composed([whole[y][x] for y in range(SIDE)]) for x in range(SIDE)]
    return [composed([columns[x][y] for x in range(SIDE)]) for y in range(SIDE)]


def composed(line: list[float]) -> list[float]:
    """Return the values whose decomposition is `line`: double the sums until there are 128."""
    factors = [SHRINK]
    while len(factors) < 7:
        factors.append(factors[-1] * SHRINK)
    sums = [line[0] / factors[6]]
    while len(sums) < SIDE:
        half = len(sums)
        factor = factors[6 - (half.bit_length() - 1)]
        finer = []
        for k in range(half):
            difference = line[half + k] / factor
            finer += [(sums[k] + difference) / 2, (sums[k] - difference) / 2]
        sums = finer
    return sums
