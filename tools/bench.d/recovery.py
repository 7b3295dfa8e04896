# SPDX-License-Identifier: GPL-2.0
"""How long it takes until data are there again: after an owner is lost for good, and after a node comes back (2.6.4)."""

import os
import statistics
import subprocess
import time
from pathlib import Path

from harness import Skip, run
from own import mnt

MIB = 1 << 20
CONFIGFS = Path("/sys/kernel/config/rdma_lite")

# A data node of 1 GB is promoted within this.
SECONDS_PER_GIB = 2.3
PROMOTED_MIB = (4, 8, 16, 32)
NODES = 8
CHUNK = 1 << 20

# The last is what tools/bench gives each node.
DEVICES_MIB = (32, 64, 128, 256)
# Of a device, in pages that its node owns.
FULL = 0.7
# Of each lab that is not told another.
CLUSTER = "706f746c-7563-6b20-8c61-620000000000"


def power(node, on):
    (CONFIGFS / f"n{node}" / "power").write_text(f"{int(on)}\n", encoding="ascii")


def gone(node):
    """As if it had lost its power, for the others."""
    run("umount", mnt(node))
    power(node, False)


def promotion(own):
    """One node after the other is lost, and with it more each time; the others own its chunks then."""
    sizes, seconds = PROMOTED_MIB, {}
    for _ in range(own.n(3, 1)):
        own.new(NODES)
        for lost, mib in zip(range(NODES, 0, -1), sizes):
            # The others own as much of it, and that stays empty.
            name = own.dataset(f"promoted-{mib}", "mrmw", lost * mib, CHUNK, replicas=2)
            filled = int(run(own.bin / "recovery", "fill", mnt(lost, name), lost, mib * MIB, timeout=600))
            if filled != mib * MIB:
                raise Skip(f"n{lost} owns {filled >> 20} MiB of a dataset, not {mib}")
            gone(lost)
            left = [f"n{node}" for node in range(1, lost)]
            took = int(run(own.bin / "recovery", "lose", lost, mnt(1, name), filled, *left, timeout=900)) / 1e9
            print(f"bench: promotion: {mib} MiB in {took:.3f} s", flush=True)
            seconds.setdefault(mib, []).append(took)
            os.unlink(mnt(1, name))
    own.down()
    rows = []
    for mib, all_seconds in seconds.items():
        median, goal = statistics.median(all_seconds), SECONDS_PER_GIB * mib / 1024
        rows.append({"owned_mib": mib, "seconds": round(median, 3), "by_round": [round(s, 3) for s in all_seconds],
                     "seconds_per_gib": round(median * 1024 / mib, 2), "goal_seconds": round(goal, 3),
                     "met": median <= goal})
    return {"rows": rows, "goal_seconds_per_gib": SECONDS_PER_GIB,
            "note": "from the publication of the map without the owner until each chunk that it owned is read and written; "
                    "two copies; the goal is 2.3 s for each GiB that it owned"}


def partition(own, node, mib):
    """The beginning of a node's device, as a device, or all of it; with 0 there is none."""
    whole = f"/dev/pmem{node - 1}"
    run(own.bin / "recovery", "part", whole, 0)
    if not mib:
        return None
    if mib == DEVICES_MIB[-1]:
        return whole
    run(own.bin / "recovery", "part", whole, mib * MIB)
    part = f"{whole}p1"
    for _ in range(50):
        if Path(part).exists():
            return part
        time.sleep(0.1)
    raise Skip(f"{part} is not there")


def comes_back(own, mib):
    """Seconds of mount(2), and until it serves, of a node whose device has so many MiB."""
    nodes = 3
    own.new(nodes, ("--no-mount",))
    run("modprobe", "hotpot")
    parts = {node: partition(own, node, mib) for node in range(1, nodes + 1)}
    for node, part in parts.items():
        run("mkfs.hotpot", "--node-id", node, "--cluster", CLUSTER, "--force", part)
        Path(mnt(node)).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "hotpot", "-o", f"node=n{node}", part, mnt(node))
    try:
        name = own.dataset("filled", "mrmw", nodes * mib, CHUNK)
        filled = int(run(own.bin / "recovery", "fill", mnt(3, name), 3, int(mib * FULL) * MIB, timeout=600))
        # It goes in the middle of commits.
        writer = subprocess.Popen([own.bin / "commits", "owner", mnt(3, name), "3", "8", "4096", "1", "1000000"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(2)
        power(3, False)
        writer.kill()
        writer.wait()
        run("umount", mnt(3))
        run("potluck", "map", "set", "n3", "down")
        power(3, True)
        run("potluck", "map", "set", "n3", "up")
        out = run(own.bin / "recovery", "mount", parts[3], mnt(3), "node=n3", name)
        mounted, served = (int(ns) / 1e9 for ns in out.split())
        print(f"bench: recovery: {mib} MiB mounted in {mounted:.3f} s, served in {served:.3f} s", flush=True)
        return filled, mounted, served
    finally:
        for node in parts:
            run("umount", mnt(node), check=False)
            partition(own, node, 0)


def recovery(own):
    """Of devices of growing size, all nodes' the same."""
    rows = []
    for mib in DEVICES_MIB:
        filled, mounted, served = zip(*(comes_back(own, mib) for _ in range(own.n(3, 1))))
        rows.append({"device_mib": mib, "owned_mib": filled[0] // MIB,
                     "mount_seconds": round(statistics.median(mounted), 3),
                     "served_seconds": round(statistics.median(served), 3),
                     "by_round": [[round(m, 3), round(s, 3)] for m, s in zip(mounted, served)]})
    own.down()
    return {"rows": rows,
            "note": "one node of three is switched off in the middle of commits, the map has it down, then up, and it mounts "
                    "its device: time of mount(2), and until it has served writes and reads of its chunks"}
