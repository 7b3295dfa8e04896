# SPDX-License-Identifier: GPL-2.0
"""What it brings that chunks move to the node that commits most to them (2.5.5; 2.8.4, figure 2.15)."""

import os

import lab as labs
from harness import Case, Sample, Skip, alone, run
from own import mnt

NODES = 4
CHUNK, CHUNKS = 64 << 10, 16
BYTES = 4096
# Mean time of a commit, that without moves being 1: 13 % and 38 % better.
GOALS = {"mrsw": 0.87, "mrmw": 0.62}
# In an emulated guest a node commits some ten times a second. In a window of this length the chunks that it likes most stand out;
# a shorter one, or a smaller benefit, has chunks that all use alike come and go for ever.
POLICY = "migrate_window_ms=4000,migrate_benefit=32K"


def commits(own, mode, moves):
    labs.mount(NODES, f"migrate={moves},{POLICY}")
    name = own.dataset(f"zipf-{mode}-{moves}", mode, CHUNKS, CHUNK)
    try:
        paths = [mnt(node, name) for node in range(1, NODES + 1)]
        out = run(own.bin / "workload", "zipf", BYTES, own.n(24, 13), own.n(250, 100), *paths).splitlines()
        came = next(int(line.split()[1]) for line in out if line.startswith("came "))
        print(f"bench: migrate={moves}: {came} chunks moved", flush=True)
        if (came > 0) != (moves == "on"):
            raise Skip(f"with migrate={moves} {came} chunks moved")
        return Sample.of_ns("\n".join(line for line in out if not line.startswith("came ")))
    finally:
        os.unlink(mnt(1, name))


def cases(own):
    for mode, goal in GOALS.items():
        yield Case(f"Zipf, 2 x 4 KiB, 4 nodes, {mode.upper()}, migrate=on, mean", lambda m=mode: commits(own, m, "on"),
                   {"migrate=off": alone(lambda m=mode: commits(own, m, "off"))}, goal, metric="per_operation",
                   prepare=lambda: own.need(NODES))
