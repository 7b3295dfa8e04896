#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Kills nodes of a cluster of real guests, at random moments and at named points of the protocol.

Three guests on a private network commit records as fast as they can, to an MRMW dataset and to an
MRSW one. In each round one of them loses its power (its QEMU is killed): at a random moment, while
nobody commits, or where `halt` in debugfs stopped it; or its link is cut. It comes back with its
PM, or is killed once more while it does; or it is lost with its PM, the map has it out, and a new
node comes in its place. Or all lose their power at the same moment and come back; or all but one
are lost at the same moment. Then all lanes must go on, no page may lack a copy, every acknowledged
record must be there, whole, on every node, and fsck.hotpot finds no damage on any device.
Prints KTAP, and at the end how often each row of the crash table was tried, over all runs that
wrote the same tally. Rounds try what was tried least.
"""

import argparse
import pathlib
import random
import sys
import time
import traceback

from cluster import Cluster
from guest import TOP, Dead
from rounds import PATIENCE, AtPoint, candidates
from tally import ROWS, Tally

# After so many rounds all spaces are unmounted, checked, and mounted again.
UNMOUNT_EVERY = 5
# Records that each lane commits before and after what happens.
RECORDS = 3


def parse(argv):
    p = argparse.ArgumentParser(prog="selftests/campaign", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=20, metavar="N", help="rounds (default 20)")
    p.add_argument("--seed", type=int, default=None, help="of victims and moments (default: random, and said)")
    p.add_argument("--flavour", default="base", choices=["base", "debug", "kasan"])
    p.add_argument("--pm", default="both", choices=["kept", "lost", "both"], help="what becomes of the victims' PM")
    p.add_argument("--mode", default="both", choices=["mrmw", "mrsw", "both"], help="only points of this mode")
    p.add_argument("--point", action="append", default=[], help="only this point, as halt in debugfs takes it")
    p.add_argument("--tally", type=pathlib.Path, default=TOP / "build/campaign-tally.json", metavar="FILE",
                   help="counts of all runs (default build/campaign-tally.json)")
    args = p.parse_args(argv)
    args.tally = args.tally.absolute()
    if not args.tally.is_relative_to(TOP):
        # The campaign runs in the build root, which has nothing else of this machine.
        p.error(f"--tally {args.tally}: not below {TOP}")
    return args


def choose(args, rng, cluster, tally):
    """The round of which the row was tried least, and the point of that least."""
    pms = {"kept": [True], "lost": [False], "both": [True, False]}[args.pm]

    def wanted(this):
        if not isinstance(this, AtPoint):
            return not args.point and args.mode == "both"
        return args.mode in ("both", this.mode) and (not args.point or this.point in args.point)

    def weight(case):
        rows = [tally.of_row(name) for name, counts in ROWS.items() if counts(case)]
        # What could not be reached before must not take all the time.
        misses = tally.missed[f"{case.mode}: {case.point}"]
        return (min(rows, default=0) + 2 * misses, tally.cases[case], rng.random())

    possible = [(weight(case), this) for this, case in candidates(rng, cluster, pms) if wanted(this)]
    if not possible:
        raise AssertionError("there is no such round")
    return min(possible, key=lambda pair: pair[0])[1]


def play(this, cluster, number):
    """One round; the cases that it was."""
    cluster.await_progress(RECORDS, PATIENCE)
    cases = this.run()
    cluster.await_progress(RECORDS, PATIENCE)
    cluster.quiesce()
    cluster.await_copies(PATIENCE)
    cluster.check_contents()
    cluster.check_images()
    if number % UNMOUNT_EVERY == 0:
        # What the writers stored and did not commit goes with the mount.
        cluster.check_devices()
        cluster.check_contents()
    # New nodes own nothing of old datasets, until no owner is left.
    if not cluster.owners or (not this.is_kept and this.rng.random() < 0.2):
        cluster.make_datasets()
    cluster.start_lanes(cluster.guests)
    return cases


def main():
    args = parse(sys.argv[1:])
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    cluster = Cluster(TOP / "build/campaign", args.flavour)
    tally = Tally(args.tally)
    failed = False
    print(f"KTAP version 1\n1..{args.rounds}\n# seed {seed}", flush=True)
    number = 1
    try:
        cluster.begin()
        for number in range(1, args.rounds + 1):
            this = choose(args, rng, cluster, tally)
            start = time.monotonic()
            print(f"# round {number}: {this}", flush=True)
            cases = play(this, cluster, number)
            seconds = time.monotonic() - start
            tally.count(cases, seconds)
            if this.missed:
                tally.miss(*this.missed)
            where = "; ".join(map(str, cases)) + (" (its point was not reached)" if this.missed else "")
            print(f"ok {number} {this} # {seconds:.0f} s; {where}; acknowledged: {cluster.acknowledged()}", flush=True)
    except (AssertionError, Dead, OSError) as error:
        failed = True
        told = [f"{type(error).__name__}: {error}", *traceback.format_tb(error.__traceback__), *cluster.describe()]
        print("\n".join("# " + line for text in told for line in text.splitlines()))
        print(f"not ok {number} # what is left: build/campaign, build/guest/campaign-*")
    finally:
        cluster.end()
    for line in tally.lines():
        print("# " + line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
