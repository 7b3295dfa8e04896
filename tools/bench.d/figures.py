# SPDX-License-Identifier: GPL-2.0
"""Figures that have no peer: memory that nodes hold, and what the core does on the host."""

import json
import re
import subprocess
import time
from pathlib import Path

import lab as labs
from harness import Skip, run

DEBUGFS = Path("/sys/kernel/debug/legomem")
CLIENTS = 1000


def kernel_kib():
    """What the kernel holds for itself: all that is neither free, cached nor a process's."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    time.sleep(0.5)
    m = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.M))
    g = lambda k: int(m.get(k, 0))
    return g("MemTotal") - g("MemFree") - g("Buffers") - g("Cached") - g("AnonPages") - g("SReclaimable")


def idle_node():
    """The kernel's own memory with the lab up, less with it down, modules loaded in both."""
    labs.up()
    labs.down()  # caches and modules are warm
    for module in ("rdma_lite", "hotpot", "rdma_rxe"):
        run("modprobe", module, check=False)
    down = min(kernel_kib() for _ in range(3))
    labs.up()
    up = min(kernel_kib() for _ in range(3))
    ring = 0
    for node in labs.NODES:
        path = Path(f"/sys/kernel/config/rdma_lite/{node}/ring_size")
        if path.exists():
            ring += int(path.read_text(encoding="ascii").split()[0]) * (len(labs.NODES) - 1)
    per_node = (up - down) / len(labs.NODES) / 1024
    rings = ring / len(labs.NODES) / (1 << 20)
    beyond = per_node - rings
    return {
        "per_node_mib": round(per_node, 2), "rings_mib": round(rings, 2), "beyond_rings_mib": round(beyond, 2),
        "goal_mib": 8, "met": beyond <= 8,
        "note": "a node with its namespace, veth, rxe device and mounted hotpot; one ring for each peer",
    }


def statistics(node):
    """What a memory node says of itself, as numbers."""
    lines = (DEBUGFS / node).read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def clients(lab):
    """What memory nodes hold, before, and with 1,000 processes that are attached and have read."""

    def held():
        return sum(value for node in labs.MEMORY_NODES for name, value in statistics(node).items()
                   if name.endswith("_bytes") and name != "allowance_bytes")

    def entries():
        return sum(statistics(node)["page_table_entries"] for node in labs.MEMORY_NODES)

    lab.within("remote", "read", 16, 10)  # the address space is there
    before, entries_before = held(), entries()
    crowd = subprocess.Popen(["nsenter", "--net=/run/netns/n1", str(lab.bin / "population"), "crowd", "16", str(CLIENTS)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if crowd.stdout.readline().strip() != "attached":
            raise Skip("the clients did not attach")
        during, entries_during = held(), entries()
    finally:
        crowd.stdin.close()
        crowd.wait()
    return {
        "clients": CLIENTS, "bytes_before": before, "bytes_with": during,
        "per_client": (during - before) / CLIENTS, "met": during == before,
        "page_table_entries": [entries_before, entries_during],
        "note": "page tables and dedup rings of three memory nodes, as their debugfs says; the home of an address space "
                "also lists the compute nodes (not processes) that are attached",
    }


def share(lab):
    """What the high class of service has of the bytes of writes, under load by both."""
    try:
        without, high = run(lab.bin / "share", 4, 2, lab.n(10, 3), "n1", "n2").split()
    except Skip as e:
        raise Skip("rdma_lite has no classes of service") if "no classes" in str(e) else e
    goal = float(Path("/sys/kernel/config/rdma_lite/n1/high_share").read_text(encoding="ascii"))
    return {"high_percent": float(high), "without_classes": float(without), "goal": goal, "met": float(high) >= goal,
            "note": "two processes of the high class beside four of the normal one, all writing 64 KiB, 16 at once"}


def retries(out):
    """Made on the host by tools/bench, out of the core's own slow path."""
    path = out / "allocation-retries.json"
    if not path.exists():
        raise Skip("tools/bench did not leave allocation-retries.json")
    return json.loads(path.read_text(encoding="utf-8"))
