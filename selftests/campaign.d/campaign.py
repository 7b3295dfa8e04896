#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Kills nodes of a cluster of real guests, at random moments and at named points of the protocol.

Three guests on a private network commit records as fast as they can. In each round one of them
loses its power (its QEMU is killed): while it does nothing special, or where `halt` in debugfs
stopped it. It comes back with its PM; or it is lost with it, the map has it out, and a new node
comes in its place. Then all lanes must go on, no page may lack a copy, every acknowledged record
must be there, whole, on every node, and fsck.hotpot finds no damage on any device.
Prints KTAP, and at the end how often which case was tried.
"""

import argparse
import collections
import random
import sys
import time
import traceback

from cluster import LANES, Cluster
from guest import TOP, Dead

# Where a node may stop in a commit with several owners, by the phases of section 2.5.2.
POINTS = {
    "phase 1": ["send prepare", "sent prepare", "handle prepare", "handled prepare", "send stage",
                "sent stage", "handle stage", "handled stage"],
    "phase 2": ["send publish", "sent publish", "handle publish", "handled publish"],
    "phase 3": ["send settle", "sent settle", "handle settle", "handled settle", "send forget",
                "handle forget", "handled forget"],
    "any": ["fence"],
}


def parse(argv):
    p = argparse.ArgumentParser(prog="selftests/campaign", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=20, metavar="N", help="kills (default 20)")
    p.add_argument("--seed", type=int, default=None, help="of victims and moments (default: random, and said)")
    p.add_argument("--flavour", default="base", choices=["base", "debug", "kasan"])
    p.add_argument("--pm", default="both", choices=["kept", "lost", "both"], help="what becomes of the victims' PM")
    p.add_argument("--point", action="append", default=[], help="only this point, as halt in debugfs takes it")
    return p.parse_args(argv)


# What an emulated cluster on a busy machine surely does meanwhile, seconds.
PATIENCE = 600


class Round:
    """One kill: who, when, and what becomes of its PM."""

    def __init__(self, args, rng, cluster):
        points = args.point or [None] * 4 + [point for phase in POINTS.values() for point in phase]
        self.point = rng.choice(points)
        self.times = rng.choice([0, 0, 1, rng.randrange(40)])
        self.delay = rng.uniform(0.2, 4)
        self.lane = rng.randrange(LANES)
        self.is_kept = rng.choice({"kept": [True], "lost": [False], "both": [True, False]}[args.pm])
        self.victim = cluster.guests[self.lane]
        self.was_dispatcher = self.victim.node == cluster.dispatcher

    @property
    def phase(self):
        """Of the protocol; none for a random moment."""
        return next((name for name, points in POINTS.items() if self.point in points), "random")

    def __str__(self):
        moment = f"at \"{self.point} {self.times}\"" if self.point else f"after {self.delay:.1f} s"
        role = ", the dispatcher," if self.was_dispatcher else ""
        return f"node {self.victim.node}{role} is killed {moment} and {'comes back' if self.is_kept else 'is lost'}"

    def kill(self):
        """Takes the victim's power away at its moment; whether it was the one that was named."""
        if not self.point:
            time.sleep(self.delay)
            self.victim.kill()
            return True
        # It may stop before it can answer.
        self.victim.begin(f"echo '{self.point} {self.times}' >/sys/kernel/debug/hotpot/halt")
        end = time.monotonic() + 30
        while time.monotonic() < end and not self.victim.has_halted():
            time.sleep(0.05)
        halted = self.victim.has_halted()
        self.victim.kill()
        return halted

    def recover(self, cluster):
        """What an operator does about it."""
        victim = self.victim
        if self.is_kept:
            cluster.publish(**{f"n{victim.node}": "down"})
            guest = cluster.boot(self.lane, victim.node)
            cluster.set_up(guest, is_new=False)
            cluster.publish(**{f"n{victim.node}": "up"})
        else:
            if self.was_dispatcher:
                cluster.dispatcher = next(guest.node for guest in cluster.living())
            cluster.publish(**{f"n{victim.node}": "out"})
            guest = cluster.new_node(self.lane)
            cluster.set_up(guest, is_new=True)
            cluster.publish(**{f"n{guest.node}": "up"})
        cluster.mount(guest)
        cluster.start_lane(self.lane)

    def run(self, cluster):
        """The round; raises what is wrong."""
        cluster.await_progress(5, PATIENCE)
        hit = self.kill()
        self.recover(cluster)
        cluster.await_progress(5, PATIENCE)
        cluster.quiesce()
        cluster.await_copies(PATIENCE)
        # What the writers stored and did not commit goes with the mount.
        cluster.check_devices()
        cluster.check_contents()
        if not self.is_kept:
            # New nodes own nothing of old datasets.
            cluster.make_dataset()
        for lane in range(LANES):
            cluster.start_lane(lane)
        return hit


def begin(cluster):
    """All nodes up, the dataset made, all lanes busy."""
    guests = [cluster.new_node(lane) for lane in range(LANES)]
    for guest in guests:
        cluster.set_up(guest, is_new=True)
    cluster.publish(**{f"n{guest.node}": "up" for guest in guests})
    for guest in guests:
        cluster.mount(guest)
    cluster.make_dataset()
    for lane in range(LANES):
        cluster.start_lane(lane)


def main():
    args = parse(sys.argv[1:])
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    cluster = Cluster(TOP / "build/campaign", args.flavour, print)
    cases = collections.Counter()
    failed = False
    print(f"KTAP version 1\n1..{args.rounds}\n# seed {seed}", flush=True)
    number = 0
    try:
        begin(cluster)
        for number in range(1, args.rounds + 1):
            this = Round(args, rng, cluster)
            start = time.monotonic()
            print(f"# round {number}: {this}", flush=True)
            hit = this.run(cluster)
            where = this.phase if hit else "point not reached"
            cases[(where, "PM kept" if this.is_kept else "PM lost", "dispatcher" if this.was_dispatcher else "other")] += 1
            print(f"ok {number} {this} # {time.monotonic() - start:.0f} s, acknowledged: {cluster.acked}", flush=True)
    except (AssertionError, Dead, OSError) as error:
        failed = True
        told = str(error).splitlines() + traceback.format_exc().splitlines()[-12:] + cluster.describe()
        print("\n".join("# " + line for line in told))
        print(f"not ok {number} # what is left: build/campaign, build/guest/campaign-*")
    finally:
        cluster.end()
    for case, count in sorted(cases.items()):
        print(f"# {count:5} x {', '.join(case)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
