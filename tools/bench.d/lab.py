# SPDX-License-Identifier: GPL-2.0
"""The lab that is measured, and the peers that are started beside it."""

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from harness import Peers, Sample, Skip, run, within

HERE = Path(__file__).resolve().parent
NODES = ["n1", "n2", "n3"]
MEMORY_NODES = ["m1", "m2", "m3"]
POOL = 192 << 20
# perftest compares two clocks to learn the processor's rate; on a busy emulated machine it sometimes finds none, and says
# that latencies are infinite.
TRIES = 3


CONFIGFS = Path("/sys/kernel/config/rdma_lite")


def has(attribute):
    """Whether nodes of rdma_lite have such an attribute."""
    run("modprobe", "rdma_lite", check=False)
    node = CONFIGFS / "bench-looks"
    node.mkdir()
    try:
        return (node / attribute).exists()
    finally:
        node.rmdir()


def up(nodes=len(NODES), memories=0, more=()):
    # What is compared with verbs goes over verbs.
    over = ("--set", "transport=verbs") if has("transport") else ()
    run("potluck", "lab", "up", nodes, "--memory", memories, "--memory-size", POOL, "--memory-page-size", "64K",
        "--pmem-format", "yes", *over, *more, timeout=600)
    if "--no-mount" not in more:
        # Cases say whose chunks they are about: those are to stay.
        mount(nodes, "migrate=off")


def mount(nodes, options):
    """The mounts of all nodes anew, with these options."""
    for node in range(nodes, 0, -1):
        run("umount", f"/mnt/n{node}")
    for node in range(1, nodes + 1):
        run("mount", "-t", "hotpot", "-o", f"node=n{node},{options}", f"/dev/pmem{node - 1}", f"/mnt/n{node}")


def down():
    run("potluck", "lab", "down", timeout=300, check=False)


class Lab:
    """Its nodes, by name, and what every case uses. It is up when the first case asks for it."""

    def __init__(self, bin_dir, quick):
        self.bin, self.probe, self.quick = bin_dir, bin_dir / "probe", quick
        self.names = 0
        self.id, self.address = {}, {}

    def need(self):
        if self.id:
            return
        try:
            up(memories=3)
        except Skip as e:
            sys.exit(f"bench: the lab does not come up: {e}")
        for node in json.loads(run("potluck", "map", "show", "--json"))["nodes"]:
            self.id[node["name"]], self.address[node["name"]] = node["id"], node["address"]

    def n(self, full, quick):
        return quick if self.quick else full

    def new_name(self, prefix):
        self.names += 1
        return f"{prefix}{self.names}"

    def device(self, node):
        """The node's end of its link."""
        return f"v{self.id[node]}"

    def within(self, program, *args, **kw):
        """One of our programs, on n1."""
        return within("n1", self.bin / program, *args, **kw)

    def remote(self, *args):
        return Sample.of_ns(self.within("remote", *args))

    def tested(self, tool, size, count, *options):
        """Lines of perftest's table: client in n2, server in n1, over their rxe devices."""
        args = [tool, "-d", "{dev}", "-x", "1", "-s", str(size), "-n", str(count), "-F", *options]
        server_args = [a.format(dev=f"rxe{self.id['n1']}") for a in args]
        client_args = [a.format(dev=f"rxe{self.id['n2']}") for a in args]
        try:
            server = subprocess.Popen(["nsenter", "--net=/run/netns/n1", *server_args],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except FileNotFoundError as e:
            raise Skip(f"{tool} is not in the root") from e
        try:
            for _ in range(50):
                time.sleep(0.2)
                if "18515" in within("n1", "ss", "-ltnH", check=False):
                    break
            out = within("n2", *client_args, self.address["n1"], timeout=120)
        finally:
            server.terminate()
            server.wait()
        for line in out.splitlines():
            f = line.split()
            if len(f) >= 5 and f[0] == str(size) and re.fullmatch(r"\d+", f[1]):
                return f
        raise Skip(f"{tool}: no figures in its output")

    def perftest(self, tool, size, count, *options):
        """Microseconds one way or per read."""
        for _ in range(TRIES):
            f = self.tested(tool, size, count, *options)
            if len(f) < 9:
                raise Skip(f"{tool}: no latencies in its output")
            # bytes, iterations, min, max, typical, avg, stdev, 99%, 99.9%
            figures = float(f[4]), float(f[7]), float(f[8]), float(f[5])
            if all(0 < figure < math.inf for figure in figures):
                return Sample(*figures)
        raise Skip(f"{tool}: it measured the clock's rate wrong, {TRIES} times")

    def bandwidth(self, tool, size, count, *options):
        """Operations per second; their latencies are not told: the mean stands for them."""
        for _ in range(TRIES):
            f = self.tested(tool, size, count, *options)
            # bytes, iterations, peak and average in MiB/s, messages per microsecond
            average = float(f[3])
            if 0 < average < math.inf:
                mean = size / (average * (1 << 20)) * 1e6
                return Sample(mean, mean, mean, mean)
        raise Skip(f"{tool}: it measured the clock's rate wrong, {TRIES} times")


def peers_sh(*args):
    return run("bash", HERE / "peers.sh", *args, timeout=120).strip()


def peers(lab):
    """All of them; none runs before a case asks for it."""
    there = Peers()
    spare = [f"/dev/pmem{i}" for i in range(3, 6) if os.path.exists(f"/dev/pmem{i}")]

    def ext4(number, where):
        if len(spare) <= number:
            raise Skip("no spare pmem device")
        peers_sh("ext4", spare[number], where)
        return where

    def nfs_server():
        store = ext4(1, "/mnt/nfs-store")
        log = open("/run/nfs-server.log", "w", encoding="utf-8")
        subprocess.Popen(["bash", str(HERE / "peers.sh"), "nfs-server", "n2", store, lab.address["n2"]],
                         stdout=log, stderr=log, start_new_session=True)
        time.sleep(5)
        return store

    def nfs(proto):
        there.get("nfs-server")
        try:
            peers_sh("nfs-mount", "n1", lab.address["n2"], f"/mnt/nfs-{proto}", proto)
        except Skip as e:
            said = Path("/run/nfs-server.log").read_text(encoding="utf-8").strip().splitlines()
            raise Skip(f"{e}; server: {said[-1]}" if said else str(e)) from e
        return f"/mnt/nfs-{proto}"

    def block(kind):
        """A block device whose data is in a ramdisk, over a path like the lab's."""
        there.get("path")
        return peers_sh(kind)

    there.add("ext4-dax", lambda: ext4(0, "/mnt/ext4"))
    there.add("nfs-server", nfs_server)
    there.add("nfs-tcp", lambda: nfs("tcp"))
    there.add("nfs-rdma", lambda: nfs("rdma"))
    there.add("path", lambda: peers_sh("path") or "there")
    for kind in ("nvme-rdma", "nvme-tcp", "rnbd", "nbd"):
        there.add(kind, lambda k=kind: block(k))
    there.add("ramdisk", lambda: peers_sh("ramdisk"))
    there.add("zram", lambda: peers_sh("zram"))
    return there


def end_peers(there):
    """What the NFS server holds goes with the guest; sessions over the network end first."""
    for where in ("/mnt/nfs-tcp", "/mnt/nfs-rdma", "/mnt/ext4"):
        run("umount", "-f", "-l", where, check=False, timeout=60)
    if "path" in there.there:
        run("bash", HERE / "peers.sh", "end", check=False, timeout=120)
