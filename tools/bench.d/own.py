# SPDX-License-Identifier: GPL-2.0
"""Labs of their own, for what is measured of hotpot with more nodes, other devices, or nodes that are lost."""

import os

import lab as labs
from harness import run

# Nodes share the machine's few processors: a heartbeat that is late is no news, and what eight do at once takes its time.
CALM = ("--heartbeat-ms", 2000, "--timeout-ms", 60000)


def mnt(node, name=""):
    return f"/mnt/n{node}/{name}" if name else f"/mnt/n{node}"


class OwnLab:
    """One lab at a time, which stays as long as what is measured next wants the same."""

    def __init__(self, bin_dir, quick):
        self.bin, self.quick = bin_dir, quick
        self.there = None

    def n(self, full, quick):
        return quick if self.quick else full

    def need(self, nodes, more=()):
        """So many nodes of hotpot; each has a device, unless `more` says otherwise."""
        if self.there == (nodes, more):
            return
        self.new(nodes, more)

    def new(self, nodes, more=()):
        """The same with empty devices."""
        self.down()
        labs.down()
        labs.up(nodes, more=(*CALM, *more))
        self.there = nodes, more

    def down(self):
        if self.there:
            self.there = None
            labs.down()

    def dataset(self, name, mode, chunks, chunk, replicas=1):
        """Its name on all nodes, which own its chunks by turns."""
        if not os.path.exists(mnt(1, name)):
            run("potluck", "dataset", "create", mnt(1, name), "--mode", mode, "--size", chunks * chunk,
                "--chunk-size", chunk, "--replicas", replicas)
        return name
