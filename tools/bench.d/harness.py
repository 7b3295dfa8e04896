# SPDX-License-Identifier: GPL-2.0
"""Samples, cases, rounds: how ours and its peers are measured in turn."""

import statistics
import subprocess
import time


# A case that takes longer than this has no more rounds, when it has had three.
CASE_SECONDS = 40
LEAST_ROUNDS = 3


class Skip(Exception):
    """A peer that is not there, or something it needs; says why."""


class Absent(Skip):
    """What a case measures is not there: no failure of the run."""


def run(*args, timeout=300, check=True, text=None):
    try:
        done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=timeout, input=text)
    except subprocess.TimeoutExpired as e:
        raise Skip(f"{args[0]}: no end within {timeout} s") from e
    except FileNotFoundError as e:
        raise Skip(f"{args[0]} is not in the root") from e
    if check and done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        status = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise Skip(f"{' '.join(map(str, args[:6]))}: {lines[-1] if lines else status}")
    return done.stdout


def within(node, *args, **kw):
    return run("nsenter", f"--net=/run/netns/{node}", *args, **kw)


def percentile(sorted_values, p):
    return sorted_values[min(len(sorted_values) - 1, int(p / 100 * len(sorted_values)))]


class Sample:
    """What one side did in one round: latencies in microseconds, operations per second."""

    def __init__(self, p50, p99, p999, mean, ops=None):
        self.p50, self.p99, self.p999, self.mean = p50, p99, p999, mean
        self.ops = ops or 1e6 / mean

    @classmethod
    def of_ns(cls, text):
        """Of lines with the nanoseconds of an operation each; `wall NS` is the time that all took together."""
        us, wall = [], None
        for line in text.splitlines():
            if line.startswith("wall "):
                wall = int(line.split()[1]) / 1e9
            elif line:
                us.append(int(line) / 1000)
        us.sort()
        if not us:
            raise Skip("no samples")
        ops = len(us) / wall if wall else None
        return cls(percentile(us, 50), percentile(us, 99), percentile(us, 99.9), statistics.fmean(us), ops)

    def times(self, factor):
        return Sample(self.p50 * factor, self.p99 * factor, self.p999 * factor, self.mean * factor)

    @property
    def per_operation(self):
        """The reciprocal of operations per second: small is good, as for the others."""
        return 1e6 / self.ops


def summary(samples, metric):
    med = statistics.median
    return {
        "p50_us": round(med(s.p50 for s in samples), 2),
        "p99_us": round(med(s.p99 for s in samples), 2),
        "p999_us": round(med(s.p999 for s in samples), 2),
        "ops_per_s": round(med(s.ops for s in samples), 1),
        f"{metric}_us_by_round": [round(getattr(s, metric), 2) for s in samples],
    }


class Case:
    """A figure of ours, peers to compare with, and a goal for the ratio to each (or to some, by name).

    peers: name -> (what it needs of Peers, or None; how it is measured, given what Peers has).
    metric: what is divided: "p50", "p99", or "per_operation" (the reciprocal of operations per second).
    best: (names of peers, goal): one more row, of ours beside the best of them in each round.
    prepare, finish: before the first round and after the last.
    """

    def __init__(self, name, ours, peers, goal=None, metric="p50", best=None, prepare=None, finish=None):
        self.name, self.ours, self.peers, self.goal = name, ours, peers, goal
        self.metric, self.best, self.prepare, self.finish = metric, best, prepare, finish


def alone(measure):
    """A peer that needs nothing to be started."""
    return None, lambda _what: measure()


class Peers:
    """Starts what peers need when a case asks for it, once; remembers what did not start, and why."""

    def __init__(self):
        self.starters, self.there = {}, {}

    def add(self, name, start):
        self.starters[name] = start

    def get(self, name):
        if name is None:
            return None
        if name not in self.there:
            try:
                self.there[name] = self.starters[name]()
            except Skip as e:
                self.there[name] = e
        if isinstance(self.there[name], Skip):
            raise self.there[name]
        return self.there[name]


def measure(case, peers, rounds):
    """The rows of a case."""
    begin = time.monotonic()
    if case.prepare:
        case.prepare()
    try:
        ours, theirs, why = [], {}, {}
        for name, (what, _) in case.peers.items():
            try:
                peers.get(what)
                theirs[name] = []
            except Skip as e:
                why[name] = str(e)
        for done in range(rounds):
            if done >= LEAST_ROUNDS and time.monotonic() - begin > CASE_SECONDS:
                break
            ours.append(case.ours())
            for name in list(theirs):
                what, how = case.peers[name]
                try:
                    theirs[name].append(how(peers.get(what)))
                except Skip as e:
                    why[name] = str(e)
                    del theirs[name]
    finally:
        if case.finish:
            case.finish()
    seconds = round(time.monotonic() - begin, 1)
    rows = [row(case, ours, name, theirs.get(name), why.get(name)) for name in case.peers]
    if case.best:
        names, goal = case.best
        there = [theirs[name] for name in names if name in theirs]
        best = [min(of_round, key=lambda s: getattr(s, case.metric)) for of_round in zip(*there)]
        rows.append(row(case, ours, "the best of these", best or None, None if best else "none of them is there", goal))
    if not case.peers:
        rows.append(row(case, ours, "", None, None))
    rows[0]["seconds"] = seconds
    return rows


def row(case, ours, name, theirs, why, goal=None):
    made = {"case": case.name, "metric": case.metric, "rounds": len(ours), "ours": summary(ours, case.metric), "peer": name}
    if why:
        made["skipped"] = why
    elif theirs:
        value = lambda sample: getattr(sample, case.metric)
        ratios = sorted(value(o) / value(p) for o, p in zip(ours, theirs))
        made["peer_figures"] = summary(theirs, case.metric)
        made["ratio"] = round(statistics.median(ratios), 3)
        quart = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else [ratios[0]] * 3
        made["ratio_quartiles"] = [round(quart[0], 3), round(quart[2], 3)]
        made["ratio_range"] = [round(ratios[0], 3), round(ratios[-1], 3)]
        if goal is None:
            goal = case.goal.get(name) if isinstance(case.goal, dict) else case.goal
        if goal is not None:
            made["goal"] = goal
            made["met"] = made["ratio"] <= goal
    return made
