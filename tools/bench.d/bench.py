#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs in the guest: ours and its peers, interleaved; a table and JSON.

usage: bench.py OUT_DIR [--rounds N] [--quick] [--only SUBSTRING]

A case is measured in rounds: ours, peer, ours, peer. What counts is the ratio
of the medians of a round; the table gives the median of these ratios and
their quartiles. Documentation/benchmarks.md says how to read it.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import plot
import remote

HERE = Path(__file__).resolve().parent
NODES = ["n1", "n2", "n3"]


class Skip(Exception):
    """A peer that is not there, or something it needs; says why."""


def run(*args, timeout=300, check=True):
    try:
        done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as e:
        raise Skip(f"{args[0]}: no end within {timeout} s") from e
    except FileNotFoundError as e:
        raise Skip(f"{args[0]} is not in the root") from e
    if check and done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Skip(f"{' '.join(map(str, args[:6]))}: {lines[-1] if lines else done.returncode}")
    return done.stdout


def within(node, *args, **kw):
    return run("nsenter", f"--net=/run/netns/{node}", *args, **kw)


def percentile(sorted_values, p):
    return sorted_values[min(len(sorted_values) - 1, int(p / 100 * len(sorted_values)))]


class Sample:
    """What one side did in one round, in microseconds."""

    def __init__(self, p50, p99, p999, mean):
        self.p50, self.p99, self.p999, self.mean = p50, p99, p999, mean

    @classmethod
    def of_ns(cls, text):
        us = sorted(int(line) / 1000 for line in text.split())
        if not us:
            raise Skip("no samples")
        return cls(percentile(us, 50), percentile(us, 99), percentile(us, 99.9), statistics.fmean(us))

    def times(self, factor):
        return Sample(self.p50 * factor, self.p99 * factor, self.p999 * factor, self.mean * factor)


def summary(samples):
    med = statistics.median
    return {
        "p50_us": round(med(s.p50 for s in samples), 2),
        "p99_us": round(med(s.p99 for s in samples), 2),
        "p999_us": round(med(s.p999 for s in samples), 2),
        "ops_per_s": round(1e6 / med(s.mean for s in samples), 1),
        "p50_us_by_round": [round(s.p50, 2) for s in samples],
    }


class Case:
    """A figure of ours, peers to compare with, and a goal for the ratio to the first."""

    def __init__(self, name, ours, peers, goal=None):
        self.name, self.ours, self.peers, self.goal = name, ours, peers, goal


# --- what is measured --------------------------------------------------------


class Lab:
    def __init__(self, probe, quick):
        self.probe, self.quick = probe, quick
        self.files = 0
        self.state = json.loads(run("potluck", "status", "--json"))
        self.id = {}
        for node in self.state["nodes"]:
            self.id[node["name"]] = node["id"]

    def n(self, full, quick):
        return quick if self.quick else full

    def ping(self, size):
        return Sample.of_ns(within("n1", self.probe, "ping", self.id["n2"], size, self.n(1000, 200)))

    def perftest(self, tool, size, count):
        """Client in n2, server in n1, over their rxe devices; microseconds one way or per read."""
        args = [tool, "-d", "{dev}", "-x", "1", "-s", str(size), "-n", str(count), "-F"]
        server_args = [a.format(dev="rxe1") for a in args]
        client_args = [a.format(dev="rxe2") for a in args]
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
            out = within("n2", *client_args, ADDRESS["n1"], timeout=120)
        finally:
            server.terminate()
            server.wait()
        for line in out.splitlines():
            f = line.split()
            if len(f) >= 9 and f[0] == str(size) and re.fullmatch(r"\d+", f[1]):
                # bytes, iterations, min, max, typical, avg, stdev, 99%, 99.9%
                return Sample(float(f[4]), float(f[7]), float(f[8]), float(f[5]))
        raise Skip(f"{tool}: no figures in its output")

    def fault(self):
        count = self.n(320, 96)
        chunk = 65536
        chunks = (count * 4096 // chunk + 1) * 3
        path = f"fault{self.files}"
        self.files += 1
        run(self.probe, "fill", f"/mnt/n1/{path}", chunks * chunk, self.id["n1"], chunk)
        try:
            return Sample.of_ns(run(self.probe, "fault", f"/mnt/n2/{path}", self.id["n1"], count))
        finally:
            os.unlink(f"/mnt/n1/{path}")

    def commit(self, areas, replicas):
        path = f"commit{areas}x{replicas}"
        if not os.path.exists(f"/mnt/n1/{path}"):
            run(self.probe, "fill", f"/mnt/n1/{path}", 1 << 20, 0, 1 << 20)
        count = self.n(200 if areas < 32 else 80, 30)
        return Sample.of_ns(run(self.probe, "commit", f"/mnt/n1/{path}", areas, replicas, count))

    def fsync(self, where, areas):
        count = self.n(200 if areas < 32 else 80, 30)
        return Sample.of_ns(run(self.probe, "fsync", f"{where}/fsync{areas}", areas, count))

    def msync(self, where, areas):
        count = self.n(200 if areas < 32 else 80, 30)
        return Sample.of_ns(run(self.probe, "msync", f"{where}/msync{areas}", areas, count))

    def sweep(self, where, size=8 << 20):
        path = f"{where}/sweep"
        if not os.path.exists(path):
            Path(path).touch()
        return Sample.of_ns(run(self.probe, "sweep", path, size, self.n(40, 12)))


ADDRESS = {}


def addresses():
    for node in NODES:
        out = within(node, "ip", "-4", "-o", "addr", "show", "scope", "global")
        m = re.search(r"inet ([\d.]+)", out)
        ADDRESS[node] = m[1] if m else ""


def start_peers():
    """Mount points by peer, or the reason why a peer is not there."""
    there = {}
    spare = [f"/dev/pmem{i}" for i in range(3, 6) if os.path.exists(f"/dev/pmem{i}")]
    peers = HERE / "peers.sh"

    def attempt(name, where, *args):
        try:
            run("bash", peers, *args, timeout=120)
            there[name] = where
        except Skip as e:
            there[name] = e

    if spare:
        attempt("ext4-dax", "/mnt/ext4", "ext4", spare[0], "/mnt/ext4")
    else:
        there["ext4-dax"] = Skip("no spare pmem device")
    if len(spare) > 1:
        attempt("nfs-store", "/mnt/nfs-store", "ext4", spare[1], "/mnt/nfs-store")
    else:
        os.makedirs("/mnt/nfs-store", exist_ok=True)
        there["nfs-store"] = Skip("no spare pmem device for the NFS server")
    if isinstance(there["nfs-store"], str):
        log = open("/run/nfs-server.log", "w", encoding="utf-8")
        subprocess.Popen(["bash", str(peers), "nfs-server", "n2", "/mnt/nfs-store", ADDRESS["n2"]],
                         stdout=log, stderr=log, start_new_session=True)
        time.sleep(5)
        for proto in ("tcp", "rdma"):
            attempt(f"nfs-{proto}", f"/mnt/nfs-{proto}", "nfs-mount", "n1", ADDRESS["n2"], f"/mnt/nfs-{proto}", proto)
            if isinstance(there[f"nfs-{proto}"], Skip):
                said = Path("/run/nfs-server.log").read_text(encoding="utf-8").strip().splitlines()
                if said:
                    there[f"nfs-{proto}"] = Skip(f"{there[f'nfs-{proto}']}; server: {said[-1]}")
    else:
        for proto in ("tcp", "rdma"):
            there[f"nfs-{proto}"] = there["nfs-store"]
    return there


def kernel_kib():
    """What the kernel holds for itself: all that is neither free, cached nor a process's."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    time.sleep(0.5)
    m = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.M))
    g = lambda k: int(m.get(k, 0))
    return g("MemTotal") - g("MemFree") - g("Buffers") - g("Cached") - g("AnonPages") - g("SReclaimable")


def lab_up(memories=0):
    run("potluck", "lab", "up", "3", "--memory", memories, "--memory-page-size", "64K", "--pmem-format", "yes", timeout=600)


def lab_down():
    run("potluck", "lab", "down", timeout=300, check=False)


def memory(result):
    """Idle nodes: the kernel's own memory with the lab up, less with it down, modules loaded in both."""
    lab_up()
    lab_down()  # caches and modules are warm
    for module in ("rdma_lite", "hotpot", "rdma_rxe"):
        run("modprobe", module, check=False)
    down = min(kernel_kib() for _ in range(3))
    lab_up()
    up = min(kernel_kib() for _ in range(3))
    ring = 0
    for node in NODES:
        path = Path(f"/sys/kernel/config/rdma_lite/{node}/ring_size")
        if path.exists():
            ring += int(path.read_text(encoding="ascii").split()[0]) * (len(NODES) - 1)
    per_node = (up - down) / len(NODES) / 1024
    rings = ring / len(NODES) / (1 << 20)
    beyond = per_node - rings
    result["memory"] = {
        "per_node_mib": round(per_node, 2), "rings_mib": round(rings, 2), "beyond_rings_mib": round(beyond, 2),
        "goal_mib": 8, "met": beyond <= 8,
        "note": "a node with its namespace, veth, rxe device and mounted hotpot; one ring for each peer",
    }


def measure(case, there, rounds):
    ours, peers, why = [], {}, {}
    for name, (where, _) in case.peers.items():
        if isinstance(there.get(where), Skip):
            why[name] = str(there[where])
        else:
            peers[name] = []
    for _ in range(rounds):
        ours.append(case.ours())
        for name in list(peers):
            try:
                peers[name].append(case.peers[name][1](there.get(case.peers[name][0])))
            except Skip as e:
                why[name] = str(e)
                del peers[name]
    rows = []
    for name in case.peers:
        row = {"case": case.name, "ours": summary(ours), "peer": name}
        if name in why:
            row["skipped"] = why[name]
        else:
            ratios = sorted(o.p50 / p.p50 for o, p in zip(ours, peers[name]))
            row["peer_figures"] = summary(peers[name])
            row["ratio"] = round(statistics.median(ratios), 3)
            quart = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else [ratios[0]] * 3
            row["ratio_quartiles"] = [round(quart[0], 3), round(quart[2], 3)]
            row["ratio_range"] = [round(ratios[0], 3), round(ratios[-1], 3)]
            goal = case.goal.get(name) if isinstance(case.goal, dict) else case.goal
            if goal is not None:
                row["goal"] = goal
                row["met"] = row["ratio"] <= goal
        rows.append(row)
    return rows


def cases(lab):
    none = lambda f: lambda _where: f()
    n = lab.n(1000, 200)
    yield Case("RPC, 64 B each way", lambda: lab.ping(64),
               {"2x ib_send_lat -s 64": (None, none(lambda: lab.perftest("ib_send_lat", 64, n).times(2)))}, 1.25)
    yield Case("remote fault, 4 KiB", lab.fault,
               {"ib_read_lat -s 4096": (None, none(lambda: lab.perftest("ib_read_lat", 4096, n)))}, 1.3)
    for areas in (1, 8, 32):
        for replicas in (1, 2, 3):
            yield Case(f"commit, {areas} x 4 KiB, {replicas} replica{'s' * (replicas > 1)}",
                       lambda a=areas, r=replicas: lab.commit(a, r), {
                           "NFS 4.2 TCP write+fsync": ("nfs-tcp", lambda w, a=areas: lab.fsync(w, a)),
                           "NFS 4.2 RDMA write+fsync": ("nfs-rdma", lambda w, a=areas: lab.fsync(w, a)),
                           "ext4-dax msync (one copy)": ("ext4-dax", lambda w, a=areas: lab.msync(w, a)),
                       }, {"NFS 4.2 TCP write+fsync": 1.0, "NFS 4.2 RDMA write+fsync": 1.0} if replicas == 3 else None)
    yield Case("read of 8 MiB, mapped and clean", lambda: lab.sweep("/mnt/n1"),
               {"ext4-dax": ("ext4-dax", lab.sweep)}, 1.1)
    yield from remote.cases(lab, Case, Sample, within)


def table(result):
    head = ["case", "ours p50", "p99", "p99.9", "ops/s", "peer", "peer p50", "p99", "ratio", "quartiles", "goal", "met"]
    rows = []
    for r in result["rows"]:
        o = r["ours"]
        row = [r["case"], f"{o['p50_us']:.0f}", f"{o['p99_us']:.0f}", f"{o['p999_us']:.0f}", f"{o['ops_per_s']:.0f}",
               r["peer"]]
        if "skipped" in r:
            row += ["skipped", "", "", "", "", ""]
        else:
            p = r["peer_figures"]
            row += [f"{p['p50_us']:.0f}", f"{p['p99_us']:.0f}", f"{r['ratio']:.2f}",
                    "{:.2f} to {:.2f}".format(*r["ratio_quartiles"]),
                    f"<= {r['goal']}" if "goal" in r else "", {True: "yes", False: "NO"}.get(r.get("met"), "")]
        rows.append(row)
    for name, why in result["failed"].items():
        rows.append([name, "failed", "", "", "", why] + [""] * 6)
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    line = lambda r: "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |"
    out = [line(head), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, rows)]
    skipped = {r["peer"]: r["skipped"] for r in result["rows"] if "skipped" in r}
    out += [""] + [f"{peer}: skipped: {why}" for peer, why in skipped.items()]
    m = result.get("memory")
    if m and "skipped" in m:
        out.append(f"memory of an idle node: skipped: {m['skipped']}")
    elif m:
        out.append(f"memory of an idle node: {m['per_node_mib']} MiB, of it rings {m['rings_mib']} MiB, beyond them "
                   f"{m['beyond_rings_mib']} MiB (goal <= 8 MiB: {'yes' if m['met'] else 'NO'}); {m['note']}")
    return "\n".join(out)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("out", type=Path)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--quick", action="store_true")
    a.add_argument("--only", default="")
    args = a.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rounds = min(args.rounds, 2) if args.quick else args.rounds
    result = {"kernel": os.uname().release, "date": time.strftime("%Y-%m-%d %H:%M:%S"), "rounds": rounds,
              "units": "microseconds; ratio: ours / peer, median of the rounds' ratios of medians",
              "rows": [], "failed": {}}
    if "memory".startswith(args.only):
        try:
            memory(result)
        except Skip as e:
            result["memory"] = {"skipped": str(e)}
    lab_down()
    try:
        lab_up(memories=3)
    except Skip as e:
        sys.exit(f"bench: the lab does not come up: {e}")
    addresses()
    lab = Lab(args.out / "probe", args.quick)
    there = start_peers()
    for case in cases(lab):
        if args.only not in case.name:
            continue
        print(f"bench: {case.name}", flush=True)
        try:
            result["rows"] += measure(case, there, rounds)
        except Skip as e:
            result["failed"][case.name] = str(e)
            print(f"bench: {case.name}: {e}", flush=True)
        (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    picture = plot.svg(result)
    if picture:
        (args.out / "ratios.svg").write_text(picture, encoding="utf-8")
    text = table(result)
    (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print("\n" + text, flush=True)
    for mnt in ("/mnt/nfs-tcp", "/mnt/nfs-rdma", "/mnt/ext4"):
        run("umount", "-f", "-l", mnt, check=False, timeout=60)
    # The guest is thrown away after this: what the NFS server holds goes with it.
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
