# SPDX-License-Identifier: GPL-2.0
"""What may happen to a node in a round of the campaign: who, when, and what becomes of its PM."""

import time

from cluster import LANES, MOUNT, kill
from tally import RECOVERY_POINTS, Case, points

# What an emulated cluster on a busy machine surely does meanwhile, seconds.
PATIENCE = 600
# How long a point of the protocol may take to be passed.
POINT_PATIENCE = 60


class Round:
    """One node fails, or more at once. `cases` says afterwards what was tried by it."""

    def __init__(self, rng, cluster, lanes, is_kept):
        self.rng, self.cluster, self.lanes, self.is_kept = rng, cluster, lanes, is_kept
        self.victims = [cluster.guests[lane] for lane in lanes]
        self.was_dispatcher = cluster.dispatcher in [victim.node for victim in self.victims]
        self.missed = None          # (mode, point) that was not passed in time

    @property
    def victim(self):
        """The node, where it is one."""
        return self.victims[0]

    def case(self, mode="both", role="any", phase="any", point="-"):
        """What was tried, with what is known of the victim."""
        return Case(mode, role, phase, point, "Y" if self.is_kept else "N", self.was_dispatcher)

    def __str__(self):
        role = ", the dispatcher," if self.was_dispatcher else ""
        nodes = " and ".join(f"node {victim.node}" for victim in self.victims)
        ends = ("comes back", "is lost") if len(self.victims) == 1 else ("come back", "are lost")
        return f"{nodes}{role} {self.moment} and {ends[0] if self.is_kept else ends[1]}"

    def kill(self):
        """Takes the victims' power away at their moment; the cases that this was."""
        raise NotImplementedError

    def halt(self, victim, point, times):
        """Has a node stop at a point and takes its power away then, or when it does not come there in time."""
        # It may stop before it can answer.
        victim.begin(f"echo '{point} {times}' >/sys/kernel/debug/hotpot/halt")
        end = time.monotonic() + POINT_PATIENCE
        while time.monotonic() < end and not victim.has_halted():
            time.sleep(0.05)
        halted = victim.has_halted()
        victim.kill()
        return halted

    def recover(self):
        """What an operator does about it."""
        cluster = self.cluster
        if not self.is_kept:
            cluster.expel(self.victims)
            cluster.replace(self.lanes)
            return
        for victim in self.victims:
            cluster.check_image(victim)
        cluster.publish(**{f"n{victim.node}": "down" for victim in self.victims})
        cluster.join(cluster.reboot(self.lanes))

    def run(self):
        """The round up to when all nodes are back at work; the cases that it was."""
        owners = set(self.cluster.owners)
        cases = self.kill()
        self.recover()
        if owners and not self.cluster.owners:
            cases.append(self.case(phase="last owner"))
        self.cluster.start_lanes(self.lanes)
        self.cluster.resume()
        return cases


class AnyTime(Round):
    """At a random moment, while all lanes of both modes commit."""

    def __init__(self, *args):
        super().__init__(*args)
        self.delay = self.rng.uniform(0.1, 3)
        self.moment = f"is killed after {self.delay:.1f} s"

    def kill(self):
        time.sleep(self.delay)
        self.victim.kill()
        return [self.case()]


class Together(Round):
    """At the same moment: all nodes, which come back; or all but one, which are lost (section 2.6: N - 1)."""

    def __init__(self, rng, cluster, lanes, is_kept):
        super().__init__(rng, cluster, lanes, is_kept)
        self.delay = rng.uniform(0.1, 3)
        self.moment = f"are killed at once after {self.delay:.1f} s"

    def kill(self):
        cluster = self.cluster
        if not self.is_kept:
            # Whoever is left must have a copy of all.
            cluster.quiesce()
            cluster.await_copies(PATIENCE)
            cluster.start_lanes(cluster.guests, copies=LANES)
        time.sleep(self.delay)
        kill(self.victims)
        return [self.case(phase="together", point=f"{len(self.victims)} nodes")]


class Idle(Round):
    """While nobody commits, and what was told in the background is told."""

    moment = "is killed while nobody commits"

    def kill(self):
        self.cluster.pause()
        time.sleep(1)
        self.victim.kill()
        return [self.case(phase="none")]


class AtPoint(Round):
    """At a named point of commits of one mode."""

    def __init__(self, *args, mode, role, phase, point):
        super().__init__(*args)
        self.mode, self.role, self.phase, self.point = mode, role, phase, point
        self.times = self.rng.choice([0, 0, 1, self.rng.randrange(8)])
        self.moment = f"is killed at \"{point} {self.times}\" of {mode}"

    def kill(self):
        # What the other mode does would pass the same points.
        self.cluster.pause({"mrmw": "mrsw", "mrsw": "mrmw"}[self.mode])
        if self.halt(self.victim, self.point, self.times):
            return [self.case(self.mode, self.role, self.phase, self.point)]
        self.missed = (self.mode, self.point)
        return [self.case(self.mode)]


class Recovery(AnyTime):
    """At any time, and once more while it comes back."""

    def __init__(self, *args):
        super().__init__(*args)
        self.point = self.rng.choice(RECOVERY_POINTS)
        self.times = self.rng.choice([0, 0, 1]) if self.point != "fence" else self.rng.randrange(12)
        self.moment += f", comes back, is killed at \"{self.point} {self.times}\""

    def recover(self):
        cluster, victim = self.cluster, self.victim
        cluster.check_image(victim)
        cluster.publish(**{f"n{victim.node}": "down"})
        victim, = cluster.reboot(self.lanes)
        victim.begin(f"echo '{self.point} {self.times}' >/sys/kernel/debug/hotpot/halt")
        cluster.publish(**{f"n{victim.node}": "up"})
        victim.begin(MOUNT)
        if not self.halt(victim, self.point, self.times):
            self.missed = ("recovery", self.point)
        self.victims = [victim]
        super().recover()

    def run(self):
        cases = super().run()
        if not self.missed:
            cases.append(self.case(phase="recovery", point=self.point))
        return cases


class Cut(Round):
    """No power is lost: the link is cut for a while. The control plane does not notice, has the node down until it
    is back, or has it out: then it stays out, whatever it says when the link is back, and a new node comes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.verdict = "out" if not self.is_kept else self.rng.choice(["nothing", "down"])
        self.seconds = self.rng.uniform(0.5, 8)
        self.moment = f"is cut off for {self.seconds:.1f} s, the map says {self.verdict},"

    def kill(self):
        cluster, victim = self.cluster, self.victim
        time.sleep(self.rng.uniform(0.1, 2))
        victim.run("ip link set eth0 down")
        if self.verdict != "nothing":
            time.sleep(self.rng.uniform(0, self.seconds))
        if self.verdict == "down":
            cluster.publish(**{f"n{victim.node}": "down"})
        if self.verdict == "out":
            cluster.expel([victim], hide=self.rng.choice([victim, None]))
        time.sleep(self.seconds)
        victim.run("ip link set eth0 up")
        if self.verdict == "out":
            # Its lanes go on trying: what they are told is checked like all that was told.
            time.sleep(3)
            victim.kill()
            return [self.case(phase="out")]
        return [self.case(phase="cut")]

    def recover(self):
        cluster, victim = self.cluster, self.victim
        if self.verdict == "out":
            cluster.replace(self.lanes)
        elif self.verdict == "down":
            cluster.publish(**{f"n{victim.node}": "up"})

    def run(self):
        if self.verdict == "out":
            return super().run()
        cases = self.kill()
        self.recover()
        return cases


def candidates(rng, cluster, pms):
    """A round of each kind, with victims at random; with the case that it is to be."""
    lanes = list(cluster.guests)
    for is_kept in pms:
        for kind, phase in ((AnyTime, "any"), (Idle, "none"), (Cut, "cut" if is_kept else "out")):
            this = kind(rng, cluster, rng.sample(lanes, 1), is_kept)
            yield this, this.case(phase=phase)
        this = Together(rng, cluster, rng.sample(lanes, len(lanes) - (not is_kept)), is_kept)
        yield this, this.case(phase="together", point=f"{len(this.victims)} nodes")
        for mode in ("mrmw", "mrsw"):
            for role, phase, point in points(mode):
                owning = cluster.owning_lanes()
                # What the others do, the only owner does not do to itself.
                able = owning if role in ("ON", "MN") else [lane for lane in lanes if set(owning) - {lane}]
                # A single owner decides by itself.
                of_several = point.endswith(("publish", "forget"))
                if len(owning) >= 2 if of_several else able:
                    this = AtPoint(rng, cluster, rng.sample(able, 1), is_kept, mode=mode, role=role, phase=phase,
                                   point=point)
                    yield this, this.case(mode, role, phase, point)
    if True in pms:
        this = Recovery(rng, cluster, rng.sample(lanes, 1), True)
        yield this, this.case(phase="recovery", point=this.point)
