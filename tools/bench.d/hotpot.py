# SPDX-License-Identifier: GPL-2.0
"""What is measured of rdma_lite's calls and of shared persistent memory."""

import os
from pathlib import Path

from harness import Case, Sample, alone, run


def ping(lab, size):
    return Sample.of_ns(lab.within("probe", "ping", lab.id["n2"], size, lab.n(1000, 200)))


def fault(lab):
    count = lab.n(320, 96)
    chunk = 65536
    chunks = (count * 4096 // chunk + 1) * 3
    path = lab.new_name("fault")
    run(lab.probe, "fill", f"/mnt/n1/{path}", chunks * chunk, lab.id["n1"], chunk)
    try:
        return Sample.of_ns(run(lab.probe, "fault", f"/mnt/n2/{path}", lab.id["n1"], count))
    finally:
        os.unlink(f"/mnt/n1/{path}")


def repeats(lab, areas):
    return lab.n(150 if areas < 32 else 60, 30)


def commit(lab, areas, replicas):
    path = f"/mnt/n1/commit{areas}x{replicas}"
    if not os.path.exists(path):
        run(lab.probe, "fill", path, 1 << 20, 0, 1 << 20)
    return Sample.of_ns(run(lab.probe, "commit", path, areas, replicas, repeats(lab, areas)))


CHUNK = 64 << 10


def dataset(lab, mode, chunks):
    """A dataset of this mode and so many chunks, which the nodes own by turns."""
    path = f"/mnt/n1/{mode}{chunks}"
    if not os.path.exists(path):
        run(lab.bin / "commits", "make", path, mode, chunks * CHUNK, CHUNK)
    return path


def commit_at(lab, mode, owner, areas, size, replicas):
    """Commits of n1 to pages of a node, or of all by turns."""
    path = dataset(lab, mode, 12)
    owner = lab.id[owner] if owner else 0
    return Sample.of_ns(run(lab.bin / "commits", "owner", path, owner, areas, size, replicas, repeats(lab, areas)))


def together(lab, mode, what, areas, size, nodes):
    """Commits that so many nodes begin at the same time."""
    name = os.path.basename(dataset(lab, mode, 48))
    paths = [f"/mnt/n{node}/{name}" for node in range(1, nodes + 1)]
    return Sample.of_ns(run(lab.bin / "commits", "together", what, areas, size, lab.n(50, 15), *paths))


def fsync(lab, where, areas):
    return Sample.of_ns(run(lab.probe, "fsync", f"{where}/fsync{areas}", areas, repeats(lab, areas)))


def msync(lab, where, areas):
    return Sample.of_ns(run(lab.probe, "msync", f"{where}/msync{areas}", areas, repeats(lab, areas)))


def sweep(lab, where, size=8 << 20):
    path = f"{where}/sweep"
    if not os.path.exists(path):
        Path(path).touch()
    return Sample.of_ns(run(lab.probe, "sweep", path, size, lab.n(40, 12)))


def ycsb(lab, where, workload):
    """In three copies where `where` is a mount of hotpot; what is left is then read on another node too."""
    name = f"ycsb-{workload}"
    what = ("--workload", workload, "--records", lab.n(1000, 200), "--operations", lab.n(1000, 200))
    if where == "/mnt/n1" and not os.path.exists(f"/mnt/n1/{name}"):
        run("potluck", "dataset", "create", f"/mnt/n1/{name}", "--replicas", 3)
    sample = Sample.of_ns(run("potluck-apps", "ycsb", "--file", f"{where}/{name}", *what))
    if where == "/mnt/n1":
        run("potluck-apps", "ycsb", "--check", "--file", f"/mnt/n3/{name}", *what)
    return sample


def cases(lab):
    n = lab.n(1000, 200)
    yield Case("RPC, 64 B each way", lambda: ping(lab, 64),
               {"2x ib_send_lat -s 64": alone(lambda: lab.perftest("ib_send_lat", 64, n).times(2))}, 1.25)
    yield Case("remote fault, 4 KiB", lambda: fault(lab),
               {"ib_read_lat -s 4096": alone(lambda: lab.perftest("ib_read_lat", 4096, n))}, 1.3)
    for areas in (1, 8, 32):
        for replicas in (1, 2, 3):
            yield Case(f"commit, {areas} x 4 KiB, {replicas} replica{'s' * (replicas > 1)}",
                       lambda a=areas, r=replicas: commit(lab, a, r), {
                           "NFS 4.2 TCP write+fsync": ("nfs-tcp", lambda w, a=areas: fsync(lab, w, a)),
                           "NFS 4.2 RDMA write+fsync": ("nfs-rdma", lambda w, a=areas: fsync(lab, w, a)),
                           "ext4-dax msync (one copy)": ("ext4-dax", lambda w, a=areas: msync(lab, w, a)),
                       }, {"NFS 4.2 TCP write+fsync": 1.0, "NFS 4.2 RDMA write+fsync": 1.0} if replicas == 3 else None)
    for mode in ("mrmw", "mrsw"):
        yield Case(f"commit of a page to its own node, {mode.upper()}", lambda m=mode: commit_at(lab, m, "n1", 1, 4096, 1),
                   {"to another node": alone(lambda m=mode: commit_at(lab, m, "n2", 1, 4096, 1))}, 0.26)
    for areas in (1, 8, 32):
        for replicas in (1, 2, 3):
            yield Case(f"commit, MRMW, {areas} x 1 KiB, three owners, {replicas} replica{'s' * (replicas > 1)}",
                       lambda a=areas, r=replicas: commit_at(lab, "mrmw", None, a, 1024, r),
                       {"MRSW": alone(lambda a=areas, r=replicas: commit_at(lab, "mrsw", None, a, 1024, r))}, 1.4)
    for mode in ("mrmw", "mrsw"):
        yield Case(f"three nodes commit the same 32 x 1 KiB, {mode.upper()}",
                   lambda m=mode: together(lab, m, "same", 32, 1024, 3),
                   {"other pages each": alone(lambda m=mode: together(lab, m, "own", 32, 1024, 3))},
                   2.3 if mode == "mrmw" else None)
        yield Case(f"three nodes commit 32 x 4 KiB at random, {mode.upper()}, by ops/s",
                   lambda m=mode: together(lab, m, "random", 32, 4096, 3),
                   {"two nodes": alone(lambda m=mode: together(lab, m, "random", 32, 4096, 2))}, metric="per_operation")
    yield Case("read of 8 MiB, mapped and clean", lambda: sweep(lab, "/mnt/n1"),
               {"ext4-dax": ("ext4-dax", lambda where: sweep(lab, where))}, 1.1)
    for workload in "ABCDEF":
        yield Case(f"YCSB {workload}, 3 replicas", lambda w=workload: ycsb(lab, "/mnt/n1", w), {
            "NFS 4.2 TCP": ("nfs-tcp", lambda where, w=workload: ycsb(lab, where, w)),
            "ext4-dax (one copy)": ("ext4-dax", lambda where, w=workload: ycsb(lab, where, w)),
            "tmpfs (nothing durable)": alone(lambda w=workload: ycsb(lab, "/dev/shm", w)),
        }, metric="per_operation")
