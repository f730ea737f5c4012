"""Random words and the points of iterated function systems, written from the documentation and not from the kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TRAJECTORIES, BURN_IN = 256, 32


def philox(seed: int, counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    c, keys, mask = counters.astype(np.uint64), [seed & 0xFFFFFFFF, seed >> 32], np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p, q = c[:, 0] * np.uint64(0xD2511F53), c[:, 2] * np.uint64(0xCD9E8D57)
        c = np.stack([(q >> 32) ^ c[:, 1] ^ keys[0], q & mask, (p >> 32) ^ c[:, 3] ^ keys[1], p & mask], 1)
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def alias_slots(probability: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Eight slots of 2^29; each keeps its own map up to its threshold, and gives the rest to its alias."""
    upto = [int(np.floor(s * 2**32 + 0.5)) for s in np.cumsum(probability) / probability.sum()]
    upto[-1] = 2**32
    weight = [b - a for a, b in zip([0, *upto], upto, strict=False)] + [0] * (8 - len(upto))
    threshold, alias, open_slots = [0] * 8, list(range(8)), set(range(8))
    while True:
        small = [i for i in sorted(open_slots) if weight[i] < 2**29]
        large = [i for i in sorted(open_slots) if weight[i] > 2**29]
        if not small or not large:
            return threshold, alias
        threshold[small[0]], alias[small[0]] = 8 * weight[small[0]], large[0]
        weight[large[0]] -= 2**29 - weight[small[0]]
        open_slots.remove(small[0])


def trajectories(seed: int, category: int, number: int) -> NDArray[np.uint32]:
    """The random states that a picture's trajectories start with, (256,)."""
    counters = np.zeros((TRAJECTORIES, 4), np.uint64)
    counters[:, 0], counters[:, 1], counters[:, 3] = category, number, np.arange(TRAJECTORIES)
    return philox(seed, counters)[:, 0].astype(np.uint32)


def attractor_points(
    affine: NDArray[np.float64], probability: NDArray[np.float64], points: int, state: NDArray[np.uint32]
) -> NDArray[np.float64]:
    """All points of a system, float64 (points, 2) or (points, 3), by step and then trajectory.

    Parameters (M, 6) are maps of the plane and (M, 12) of space; every trajectory starts at the fixed point of the map
    that shrinks most.
    """
    space = {6: 2, 12: 3}[affine.shape[1]]
    matrix, shift = affine[:, : space**2].reshape(-1, space, space), affine[:, space**2 :]
    first = np.argmin(np.where(probability > 0, (matrix**2).sum((1, 2)), np.inf))
    at = np.linalg.solve(np.eye(space) - matrix[first], shift[first])[None].repeat(len(state), 0)
    threshold, alias = (np.array(column) for column in alias_slots(probability))
    drawn = []
    for step in range(BURN_IN + -(-points // len(state))):
        state = state ^ state << np.uint32(13)
        state ^= state >> np.uint32(17)
        state ^= state << np.uint32(5)
        slot = (state & 7).astype(int)
        signed = state.astype(np.int32).astype(np.int64) + 2**31
        chosen = np.where(signed < threshold[slot], slot, alias[slot])
        at = np.einsum("nij,nj->ni", matrix[chosen], at) + shift[chosen]
        if step >= BURN_IN:
            drawn.append(at)
    return np.concatenate(drawn)[:points]
