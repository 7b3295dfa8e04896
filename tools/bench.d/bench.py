#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs in the guest: ours and its peers, interleaved; a table and JSON.

usage: bench.py OUT_DIR [--rounds N] [--quick] [--only TEXT[|TEXT]...]

A case is measured in rounds: ours, peer, ours, peer. What counts is the ratio
of the medians of a round; the table gives the median of these ratios and
their quartiles. Documentation/benchmarks.md says how to read it.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import disk
import entries
import figures
import hotpot
import lab as labs
import lite
import migration
import plot
import recovery
import remote
import report
import scale
import traffic
from harness import Absent, Peers, Skip, measure
from own import OwnLab


def wanted(name, only):
    """One of the texts is in the name."""
    return any(text in name for text in only.split("|"))


def figure(result, key, name, only, take, need=lambda: None):
    """A figure that is no ratio."""
    if not wanted(name, only):
        return
    need()
    print(f"bench: {name}", flush=True)
    try:
        result[key] = take()
    except Skip as e:
        result[key] = {"skipped": str(e)}
        print(f"bench: {name}: {e}", flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("out", type=Path)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--quick", action="store_true")
    a.add_argument("--only", default="")
    args = a.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rounds = min(args.rounds, 2) if args.quick else args.rounds
    begin = time.monotonic()
    result = {"kernel": os.uname().release, "date": time.strftime("%Y-%m-%d %H:%M:%S"), "rounds": rounds,
              "units": "microseconds; ratio: ours / peer, median of the rounds' ratios of what `metric` says",
              "rows": [], "absent": {}, "failed": {}}

    def save():
        result["seconds"] = round(time.monotonic() - begin)
        (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    def take(cases, there, need=lambda: None):
        for case in cases:
            if not wanted(case.name, args.only):
                continue
            need()
            print(f"bench: {round(time.monotonic() - begin)} s: {case.name}", flush=True)
            try:
                result["rows"] += measure(case, there, rounds)
            except Absent as e:
                result["absent"][case.name] = str(e)
                print(f"bench: {case.name}: {e}", flush=True)
            except Skip as e:
                result["failed"][case.name] = str(e)
                print(f"bench: {case.name}: {e}", flush=True)
            save()

    figure(result, "allocation_retries", "allocation retries", args.only, lambda: figures.retries(args.out))
    figure(result, "memory", "memory of an idle node", args.only, figures.idle_node)
    labs.down()
    own = OwnLab(args.out, args.quick)
    figure(result, "promotion", "promotion", args.only, lambda: recovery.promotion(own))
    figure(result, "recovery", "recovery by PM size", args.only, lambda: recovery.recovery(own))
    for module in (scale, migration):
        take(module.cases(own), Peers())
    own.down()
    lab = labs.Lab(args.out, args.quick)
    there = labs.peers(lab)
    for key, name, of in (("share", "share of the high class", figures.share),
                          ("clients", "memory node state per client", figures.clients),
                          ("traffic", "network bytes per committed byte", traffic.traffic)):
        figure(result, key, name, args.only, lambda f=of: f(lab), lab.need)
    for module in (hotpot, lite, remote, disk, entries):
        take(module.cases(lab), there, lab.need)
    for name, picture in plot.pictures(result):
        (args.out / name).write_text(picture, encoding="utf-8")
    save()
    text = report.table(result)
    (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print("\n" + text, flush=True)
    print(f"bench: {result['seconds']} s", flush=True)
    labs.end_peers(there)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
