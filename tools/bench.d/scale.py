# SPDX-License-Identifier: GPL-2.0
"""Commits of 2, 4 and 8 nodes at once (2.8.4, figure 2.13)."""

from harness import Case, Sample, alone, run
from own import mnt

MOST = 8
CHUNK = 64 << 10
CHUNKS_OF_EACH = 32
AREAS, BYTES = 32, 4096
# Throughput of four nodes, that of two being 1.
GOALS = {"mrsw": 1.28, "mrmw": 1.04}


def commits(own, mode, nodes):
    """Of so many of the lab's nodes, to chunks that these own: the others have no part in them."""
    name = own.dataset(f"scale-{mode}", mode, MOST * CHUNKS_OF_EACH, CHUNK)
    paths = [mnt(node, name) for node in range(1, nodes + 1)]
    return Sample.of_ns(run(own.bin / "workload", "apart", AREAS, BYTES, own.n(40, 12), *paths))


def cases(own):
    for mode, goal in GOALS.items():
        for nodes in (4, MOST):
            yield Case(f"commit, {nodes} nodes at once, 32 x 4 KiB, {mode.upper()}, by ops/s",
                       lambda m=mode, n=nodes: commits(own, m, n),
                       {"2 nodes": alone(lambda m=mode: commits(own, m, 2))},
                       round(1 / goal, 2) if nodes == 4 else None, metric="per_operation",
                       prepare=lambda: own.need(MOST))
