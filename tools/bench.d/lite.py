# SPDX-License-Identifier: GPL-2.0
"""What programs have of rdma_lite: one-sided accesses and calls beside raw verbs, many users, applications beside TCP."""

import json
from pathlib import Path

import pair
from harness import Case, Sample, Skip, alone, run

PATH = ("n1", "n2")
CALLED = ("n2", "n3", "m1")
SIZES = (8, 4096, 1 << 20)
CALL_SIZES = (8, 64, 1024, 4096)
STREAM = 65536
DEPTH = 32
USERS = (16, 256)
REGIONS = (100, 10_000)
PORTS = (100, 1_000)
GRAPH = "graph"
# Longer than a call takes on an emulated machine.
EAGER_US = 2000


def name_of(size):
    if size >= 1 << 20:
        return f"{size >> 20} MiB"
    return f"{size >> 10} KiB" if size >= 1024 else f"{size} B"


def lite(lab, *args, nodes=PATH):
    return Sample.of_ns(run(lab.bin / "lite", *args, *nodes))


def verbs(lab, what, how, size, count):
    return Sample.of_ns(run(lab.bin / "verbs", what, how, size, count, *PATH, lab.address[PATH[1]]))


def application(lab, transport, *args):
    """The figures of the first rank, which has checked the results."""
    nodes = ",".join(["n1", "n2", "n3"])
    name, *more = args
    out = run("potluck", "run", "-n", nodes, "--timeout", 280, "--", "potluck-apps", name, "--transport", transport, *more)
    figures = [line.partition(": ")[2] for line in out.splitlines() if '"checked":true' in line]
    if not figures:
        raise Skip("potluck-apps gave no figures")
    return json.loads(figures[0])


def sample(latencies, per_s):
    return Sample(latencies["p50_us"], latencies["p99_us"], latencies["p999_us"], latencies["mean_us"], per_s)


def table(lab, transport):
    made = application(lab, transport, "kv", "--clients", 4, "--operations", lab.n(1000, 200), "--keys", 100)
    return sample(made["get"], made["per_s"])


def pagerank(lab, transport, graph):
    made = application(lab, transport, "pagerank", *graph, "--iterations", lab.n(30, 10))
    return sample(made["iteration"], made["iterations"] / made["seconds"])


def graphs(lab):
    """Name and options of what PageRank works on: Debian's packages where tools/bench found apt's lists."""
    made = Path(lab.bin) / GRAPH
    if made.exists():
        yield "Debian's packages", ("--graph", made)
    yield "R-MAT, 2^13 vertices", ("--rmat", 13)


def one_sided(lab):
    n = lab.n(1000, 200)
    for size in SIZES:
        count = n if size < 1 << 20 else max(n // 20, 10)
        for what in ("read", "write"):
            # One way only, and the writer asks its memory instead of the completion queue: not the same thing.
            also = {} if what == "write" else {
                f"ib_read_lat -s {size}": alone(lambda s=size, c=count: lab.perftest("ib_read_lat", s, c))}
            yield Case(f"lite_{what}, {name_of(size)}", lambda w=what, s=size, c=count: lite(lab, w, s, c), {
                f"verbs {what}, polling": alone(lambda w=what, s=size, c=count: verbs(lab, w, "spin", s, c)),
                f"verbs {what}, sleeping": alone(lambda w=what, s=size, c=count: verbs(lab, w, "sleep", s, c)),
                **also,
            }, {f"verbs {what}, polling": 1.10})
    m = lab.n(1000, 300)
    # 0.95 of the bandwidth is 1.05 times the time.
    yield Case(f"lite_write, {name_of(STREAM)}, {DEPTH} at once, by ops/s", lambda: lite(lab, "stream", STREAM, m, DEPTH),
               {f"ib_write_bw -s {STREAM} -t {DEPTH}":
                alone(lambda: lab.bandwidth("ib_write_bw", STREAM, m, "-t", str(DEPTH)))}, 1.053, metric="per_operation")


def calls(lab):
    n = lab.n(1000, 200)
    for size in CALL_SIZES:
        yield Case(f"lite_rpc_call, {name_of(size)} each way", lambda s=size: lite(lab, "call", s, n), {
            f"2x ib_send_lat -s {size}": alone(lambda s=size: lab.perftest("ib_send_lat", s, n).times(2)),
            f"2x ib_send_lat -s {size} -e": alone(lambda s=size: lab.perftest("ib_send_lat", s, n, "-e").times(2)),
        }, {f"2x ib_send_lat -s {size}": 1.25})
    # Like for like: where ours polls as long as a call takes, or never does.
    for poll_us, option in ((EAGER_US, ()), (0, ("-e",))):
        some = pair.Pair(lab, "verbs", transport="verbs", poll_us=poll_us)
        for size in CALL_SIZES:
            peer = " ".join((f"2x ib_send_lat -s {size}", *option))
            yield Case(f"lite_rpc_call, {name_of(size)} each way, poll_us {poll_us}",
                       lambda s=size: lite(lab, "call", s, n, nodes=pair.NODES),
                       {peer: alone(lambda s=size, o=option: lab.perftest("ib_send_lat", s, n, *o).times(2))},
                       1.25, prepare=some.up, finish=some.down)
    yield Case("lite_rpc_multicast to 3 nodes, 64 B", lambda: lite(lab, "call", 64, n, nodes=("n1", *CALLED)),
               {"one call": alone(lambda: lite(lab, "call", 64, n))}, 1.5)
    shared = pair.Pair(lab, "shm", transport="auto")
    yield Case("lite_rpc_call, 64 B, shared memory", lambda: lite(lab, "call", 64, n, nodes=pair.NODES),
               {"over verbs": alone(lambda: lite(lab, "call", 64, n))}, 0.2, prepare=shared.up, finish=shared.down)


def many(lab):
    n = lab.n(1000, 200)
    for number in USERS[lab.quick:]:
        yield Case(f"lite_read, 64 B, {number} users", lambda k=number: lite(lab, "users", k, 64, n),
                   {"one user": alone(lambda: lite(lab, "users", 1, 64, n))}, 1.05)
    for number in REGIONS:
        number = lab.n(number, number // 10)
        yield Case(f"lite_read, 64 B, {number} regions", lambda k=number: lite(lab, "regions", k, 64, n),
                   {"one region": alone(lambda: lite(lab, "regions", 1, 64, n))}, 1.05)
    for number in PORTS[lab.quick:]:
        yield Case(f"lite_rpc_call, 64 B, {number} ports", lambda k=number: lite(lab, "ports", k, 64, n),
                   {"one port": alone(lambda: lite(lab, "ports", 1, 64, n))}, 1.05)


def applications(lab):
    yield Case("key-value table on 3 nodes, gets", lambda: table(lab, "lite"), {"over TCP": alone(lambda: table(lab, "tcp"))})
    for name, graph in graphs(lab):
        yield Case(f"PageRank on 3 nodes, {name}, an iteration", lambda g=graph: pagerank(lab, "lite", g),
                   {"over TCP": alone(lambda g=graph: pagerank(lab, "tcp", g))})


def cases(lab):
    for some in (one_sided, calls, many, applications):
        yield from some(lab)
