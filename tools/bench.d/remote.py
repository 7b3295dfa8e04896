# SPDX-License-Identifier: GPL-2.0
"""What is measured of remote memory: legomem on m1, m2, m3, clio_cn on n1."""

import json

from harness import Case, Sample, Skip, alone, run

LOSS = "1%"


class Lossy:
    """Every node's link loses packets while this is on."""

    def __init__(self, lab):
        self.lab = lab

    def on(self):
        for node in self.lab.id:
            run("tc", "-n", node, "qdisc", "replace", "dev", self.lab.device(node), "root", "netem", "loss", LOSS)

    def off(self):
        for node in self.lab.id:
            run("tc", "-n", node, "qdisc", "del", "dev", self.lab.device(node), "root", check=False)


def ycsb(lab, workload):
    """Operations per second, and latencies of reads."""
    try:
        out = lab.within("ycsb", "-j", "-r", 500, "-o", lab.n(2000, 600), "-t", 4, workload)
    except Skip:
        # What it leaves would be in the way of the next.
        run("potluck", "mem", "destroy", "ycsb", "--force", check=False)
        raise
    said = json.loads(out.strip().splitlines()[-1])
    if not said["operations"]:
        raise Skip("ycsb did nothing")
    return Sample(said["read_p50_us"], said["read_p99_us"], said["read_p99_us"], 1e6 / said["per_s"], said["per_s"])


def cases(lab):
    """Peers over the same path are perftest's one-sided reads and writes."""
    ours = lab.remote
    n = lab.n(600, 150)
    for size in (16, 4096):
        yield Case(f"rread, {size} B", lambda s=size: ours("read", s, n),
                   {f"ib_read_lat -s {size}": alone(lambda s=size: lab.perftest("ib_read_lat", s, n))}, 1.15)
        yield Case(f"rwrite, {size} B", lambda s=size: ours("write", s, n),
                   {f"ib_write_lat -s {size}": alone(lambda s=size: lab.perftest("ib_write_lat", s, n))}, 2.0)
    touches = lab.n(200, 100)
    yield Case("first touch of a page, 16 B", lambda: ours("touch", 16, touches),
               {"warm rwrite, 16 B": alone(lambda: ours("write", 16, touches))}, 1.1)
    for clients in (16, 64, 256):
        yield Case(f"rread, 16 B, {clients} clients", lambda c=clients: ours("clients", c, 16, n),
                   {"one client": alone(lambda: ours("clients", 1, 16, n))}, 1.05)
    few = lab.n(100, 40)
    yield Case("pointer chase, depth 16", lambda: ours("chase", 16, few),
               {"16 rreads": alone(lambda: ours("walk", 16, few)),
                "16x ib_read_lat -s 16": alone(lambda: lab.perftest("ib_read_lat", 16, n).times(16))}, 0.25)
    for workload in "ABC":
        yield Case(f"key-value offload, YCSB {workload}, 4 threads, reads of 1,000 B", lambda w=workload: ycsb(lab, w), {})
    lossy = Lossy(lab)
    m = lab.n(1000, 300)
    for size in (16, 4096):
        yield Case(f"rread, {size} B, {LOSS} loss on every link (p99)", lambda s=size: ours("read", s, m), {
            "ib_read_lat, default timeout": alone(lambda s=size: lab.perftest("ib_read_lat", s, m)),
            "ib_read_lat, timeout of 4 ms": alone(lambda s=size: lab.perftest("ib_read_lat", s, m, "-u", "10")),
        }, {"ib_read_lat, default timeout": 0.1, "ib_read_lat, timeout of 4 ms": 0.5},
            metric="p99", prepare=lossy.on, finish=lossy.off)
