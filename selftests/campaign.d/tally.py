# SPDX-License-Identifier: GPL-2.0
"""Rows of the crash table (Documentation/design/hotpot-recovery.md), the points that lead to them, and how often
each was tried, over all runs of the campaign."""

import collections
import json

MODES = ("mrmw", "mrsw")

# Where `halt` in debugfs may stop a node, by its part in a commit (CN, ON, DN) and the phase: section 2.6.
COMMIT_POINTS = {
    ("CN", "p1"): ["send prepare", "sent prepare"],
    ("ON", "p1"): ["handle prepare", "handled prepare", "send stage", "sent stage"],
    ("DN", "p1"): ["handle stage", "handled stage"],
    ("CN", "p2"): ["send publish", "sent publish"],
    ("ON", "p2"): ["handle publish", "handled publish"],
    ("CN", "p3"): ["send forget", "sent forget"],
    ("ON", "p3"): ["send settle", "sent settle", "handle forget", "handled forget"],
    ("DN", "p3"): ["handle settle", "handled settle"],
}
ACQUIRE_POINTS = {
    ("CN", "acquire"): ["send acquire", "sent acquire"],
    ("MN", "acquire"): ["handle acquire", "handled acquire"],
}
# Of a node that comes back and greets the others; then it comes back once more.
RECOVERY_POINTS = ["send hello", "sent hello", "send ask-grants", "sent ask-grants", "send ask-records",
                   "send inventory", "fence"]

# A commit of MRSW has one phase; what follows it is the release.
MRSW_PHASES = {"p1": "commit", "p2": "release", "p3": "release"}


class Case(collections.namedtuple("Case", "mode role phase point pm dispatcher")):
    """What was tried. `mode` both, mrmw or mrsw; `role` CN, ON, DN, MN or any; `phase` as above, "none" (no
    commit), "any", "recovery", "out" (cut off) or "together" (the point is how many nodes); `point` or "-"; `pm` "Y" or
    "N"."""

    @property
    def kills(self):
        """Nodes that lost their power, or were cut off for good."""
        if self.phase == "together":
            return int(self.point.split()[0])
        # The last owner is counted by how it was killed, too.
        return int(self.phase not in ("cut", "last owner"))


    def __str__(self):
        return ", ".join([self.mode, self.role, self.phase, self.point, f"PM {self.pm}"] +
                         (["dispatcher"] if self.dispatcher else []))


def points(mode):
    """(role, phase, point) of a mode, each once."""
    for (role, phase), names in COMMIT_POINTS.items():
        for name in names:
            yield role, phase if mode == "mrmw" else MRSW_PHASES[phase], name
    if mode == "mrsw":
        for (role, phase), names in ACQUIRE_POINTS.items():
            for name in names:
                yield role, phase, name


def _row(**wanted):
    def counts(case):
        return all(getattr(case, field) in (value if isinstance(value, tuple) else (value,))
                   for field, value in wanted.items())
    return counts


# In the order of the document: how the row is called there, and which cases are of it. All nodes of the campaign
# own chunks and hold copies; a node that dies after its own commit was decided is its owner too (ON = CN).
ROWS = {
    "any node, PM Y, any time": _row(pm="Y"),
    "any node, PM N, any time": _row(pm="N"),
    "any, CD, PM Y, any time": _row(pm="Y", dispatcher=True),
    "any, CD, PM N, any time": _row(pm="N", dispatcher=True),
    "any, ON and DN, PM N, no commit": _row(pm="N", phase="none"),
    "any, all ONs in turn, PM N": _row(pm="N", phase="last owner"),
    "MRMW, CN, PM N, p1": _row(mode="mrmw", role="CN", pm="N", phase="p1"),
    "MRMW, ON, PM N, p1": _row(mode="mrmw", role="ON", pm="N", phase="p1"),
    "MRMW, CN, PM N, p2": _row(mode="mrmw", role="CN", pm="N", phase="p2"),
    "MRMW, ON, PM N, p2": _row(mode="mrmw", role="ON", pm="N", phase="p2"),
    "MRMW, ON = CN, PM N, p2": _row(mode="mrmw", role="CN", pm="N", phase="p2"),
    "MRMW, DN, PM N, p1 and p2": _row(mode="mrmw", role="DN", pm="N", phase=("p1", "p2")),
    "MRMW, CN, PM N, p3": _row(mode="mrmw", role="CN", pm="N", phase="p3"),
    "MRMW, ON/DN, PM N, p3": _row(mode="mrmw", role=("ON", "DN"), pm="N", phase="p3"),
    "MRSW, CN, PM N, commit": _row(mode="mrsw", role="CN", pm="N", phase="commit"),
    "MRSW, ON, PM N, commit": _row(mode="mrsw", role=("ON", "DN"), pm="N", phase="commit"),
    "MRSW, CN, PM N, release": _row(mode="mrsw", role="CN", pm="N", phase="release"),
    "MRSW, ON/DN, PM N, release": _row(mode="mrsw", role=("ON", "DN"), pm="N", phase="release"),
    "MRSW, MN, PM Y, any time": _row(mode="mrsw", role=("MN", "ON"), pm="Y"),
    "MRSW, CN or MN, acquire": _row(mode="mrsw", phase="acquire"),
    "any, all nodes at once, PM Y": _row(pm="Y", phase="together"),
    "any, all but one at once, PM N": _row(pm="N", phase="together"),
    "any, killed again in its recovery, PM Y": _row(phase="recovery"),
    "any, link cut and healed": _row(phase="cut"),
    "any, cut off and out": _row(phase="out"),
}


class Tally:
    """Counts in a file, for the rounds of all runs that passed."""

    def __init__(self, path):
        self.path = path
        self.cases = collections.Counter()
        self.missed = collections.Counter()
        self.seconds = 0.0
        if path.exists():
            kept = json.loads(path.read_text())
            self.cases.update({Case(*case): count for case, count in kept["cases"]})
            self.missed.update(kept["missed"])
            self.seconds = kept["seconds"]

    @property
    def kills(self):
        """Nodes that lost their power, or were cut off for good."""
        return sum(count * case.kills for case, count in self.cases.items())

    def count(self, cases, seconds):
        """Writes down what a round that passed has tried, and how long it took."""
        self.cases.update(cases)
        self.seconds += seconds
        self._keep()

    def miss(self, mode, point):
        """A point that was not passed in time."""
        self.missed[f"{mode}: {point}"] += 1
        self._keep()

    def _keep(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"seconds": self.seconds, "missed": self.missed,
                                   "cases": sorted([list(case), count] for case, count in self.cases.items())},
                                  indent=1))
        new.rename(self.path)

    def of_row(self, name):
        """How often a row was tried."""
        return sum(count for case, count in self.cases.items() if ROWS[name](case))

    def lines(self):
        """For people."""
        yield f"{self.kills} kills in {self.seconds / 3600:.2f} h" + \
            (f", {self.kills * 3600 / self.seconds:.0f} in an hour" if self.seconds else "")
        for name in ROWS:
            yield f"{self.of_row(name):5} x {name}"
        for name, count in sorted(self.missed.items()):
            yield f"{count:5} x not reached: {name}"
