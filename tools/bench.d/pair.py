# SPDX-License-Identifier: GPL-2.0
"""Two nodes of their own, whose attributes a case chooses."""

from pathlib import Path

import lab as labs
from harness import Absent, Skip, run

NODES = ("bp1", "bp2")
CONFIGFS = Path("/sys/kernel/config/rdma_lite")
PEERS = Path("/sys/kernel/debug/rdma_lite/peers")
CLUSTER = "5e1f7e57-0000-4000-8000-0000000000be"
PORT = 18700


class Pair:
    """Namespaces with a link and an rxe device each, as the nodes of a lab have them, while this is up."""

    def __init__(self, lab, carried_by, **attributes):
        self.lab, self.carried_by, self.attributes = lab, carried_by, attributes

    def up(self):
        for attribute in self.attributes:
            if not labs.has(attribute):
                raise Absent(f"rdma_lite has no attribute `{attribute}` of its nodes")
        self.down()
        first, second = NODES
        for name in NODES:
            run("ip", "netns", "add", name)
        run("ip", "-n", first, "link", "add", "bv1", "mtu", "9000", "type", "veth",
            "peer", "name", "bv2", "mtu", "9000", "netns", second)
        for at, name in enumerate(NODES, 1):
            inside = ("nsenter", f"--net=/run/netns/{name}")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "addr", "add", f"10.79.0.{at}/24", "dev", f"bv{at}")
            run("ip", "-n", name, "link", "set", f"bv{at}", "up")
            run(*inside, "rdma", "link", "add", f"bvr{at}", "type", "rxe", "netdev", f"bv{at}")
            # A node is of the namespace of who makes it.
            run(*inside, "mkdir", CONFIGFS / name)
            for attribute, value in {"id": at, "addr": f"10.79.0.{at}", "port": PORT, "device": f"bvr{at}",
                                     "cluster": CLUSTER, **self.attributes, "power": 1}.items():
                (CONFIGFS / name / attribute).write_text(f"{value}\n", encoding="ascii")
        run(self.lab.bin / "lite", "pair", *NODES)
        carried = PEERS.read_text(encoding="ascii")
        if not any(line.startswith(f"{first} 2 {self.carried_by} ") for line in carried.splitlines()):
            raise Skip(f"the pair does not reach each other over {self.carried_by}")

    def down(self):
        for at, name in enumerate(NODES, 1):
            node = CONFIGFS / name
            if node.exists():
                (node / "power").write_text("0\n", encoding="ascii")
                node.rmdir()
            run("ip", "netns", "exec", name, "rdma", "link", "del", f"bvr{at}", check=False)
            run("ip", "netns", "del", name, check=False)
