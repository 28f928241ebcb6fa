"""Greedy picks on a graph, each of which lowers its neighbours: what density and message passing share."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import torch

from attar.method import State


class Edges(NamedTuple):
    """A symmetric graph of n nodes by rows: the neighbours of i are ``to[start[i]:start[i + 1]]``, ascending.

    Args:
        start: int64 [n + 1]. to: int64 [E]. length: float64 [E], the distance of each edge.
    """

    start: np.ndarray
    to: np.ndarray
    length: np.ndarray

    @property
    def source(self) -> np.ndarray:
        """The node that each edge leaves: int64 [E]."""
        return np.arange(len(self.start) - 1).repeat(np.diff(self.start))


def edges_of(graph: State, rows: torch.Tensor) -> Edges:
    """The graph among some rows, an edge wherever either end counts the other among its neighbours.

    Args:
        graph: the resource of :mod:`attar.resources.graph`.
        rows: int64 [n], the nodes in the order in which they are numbered.
    """
    n = len(rows)
    place = torch.full((len(graph["ids"]) + 1,), -1)  # the last stands for no neighbour
    place[rows] = torch.arange(n)
    to = place[graph["ids"][rows].long()].flatten().numpy()  # [n k]; -1 finds the last
    one, length = np.arange(n).repeat(len(to) // max(n, 1)), graph["distances"][rows].double().flatten().numpy()
    there = to >= 0
    one, to, length = one[there], to[there], length[there]
    key, first = np.unique(np.concatenate([one * n + to, to * n + one]), return_index=True)
    start = np.searchsorted(key, np.arange(n + 1) * n)
    return Edges(start, key % max(n, 1), np.concatenate([length, length])[first])


def summed(edges: Edges, values: np.ndarray) -> np.ndarray:
    """The sum of a value over the edges of every node: float64 [E] -> [n]."""
    return np.bincount(edges.source, weights=values, minlength=len(edges.start) - 1)


def suppress(
    value: np.ndarray, edges: Edges, weight: np.ndarray, k: int, *, clamp: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Picks the highest value, lowers its neighbours by a share of it, and so on.

        next = argmax of v over the unpicked;    v_j = v_j - r_ij v_next  for every neighbour j

    Args:
        value: float64 [n]. weight: float64 [E], the share r of each edge.
        k: picks, 1 to n.
        clamp: a pick of negative value lowers nothing; else it raises its neighbours.

    Returns:
        places int64 [k], unique, ties to the lower; and the value of each when it was picked, float64 [k].

    Cost: O((n + k d) log n) for nodes of d edges: a heap whose outdated entries are skipped.
    """
    now = value.tolist()
    heap = [(-v, i) for i, v in enumerate(now)]
    heapq.heapify(heap)
    picks: list[int] = []
    gains: list[float] = []
    picked = [False] * len(now)
    while len(picks) < k:
        v, i = heapq.heappop(heap)
        if picked[i] or -v != now[i]:
            continue
        picked[i] = True
        picks.append(i)
        gains.append(now[i])
        amount = max(now[i], 0.0) if clamp else now[i]
        for e in range(edges.start[i], edges.start[i + 1]):
            j = int(edges.to[e])
            if not picked[j]:
                now[j] -= float(weight[e]) * amount
                heapq.heappush(heap, (-now[j], j))  # at once, so that rising values are found too
    return torch.tensor(picks), torch.tensor(gains, dtype=torch.float64)
