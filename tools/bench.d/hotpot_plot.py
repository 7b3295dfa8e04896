# SPDX-License-Identifier: GPL-2.0
"""hotpot's figures and commits as SVG."""

import re

import chart

MILLISECONDS = 1e3
COMMIT = re.compile(r"commit, (\d+) x 4 KiB, (\d) replica")
AT_ONCE = re.compile(r"commit, (\d+) nodes at once, .*, (\w+), by ops/s")


def copies_of(number):
    return f"{number} cop{'y' if number == 1 else 'ies'}"


def commits(result):
    """Commits of each number of copies by their size."""
    points = {}
    for r in result["rows"]:
        found = COMMIT.match(r["case"])
        if found:
            points.setdefault(int(found[2]), {})[int(found[1])] = r["ours"]["p50_us"] / MILLISECONDS
    if points:
        yield "hotpot-commits.svg", chart.lines(
            "A commit by its size and its copies", "pages of 4 KiB", "p50, ms",
            [(copies_of(copies), sorted(of.items()), False) for copies, of in sorted(points.items())])


def nodes(result):
    """Throughput of all nodes together."""
    points = {}
    for r in result["rows"]:
        found = AT_ONCE.match(r["case"])
        if found and "peer_figures" in r:
            of = points.setdefault(found[2], {})
            of[int(found[1])] = r["ours"]["ops_per_s"]
            # Measured beside the one of four nodes, and beside that of eight.
            of.setdefault(2, r["peer_figures"]["ops_per_s"])
    if points:
        yield "hotpot-nodes.svg", chart.lines(
            "Commits of all nodes at once: 32 pages at random, one copy", "nodes", "commits/s of all",
            [(mode, sorted(of.items()), False) for mode, of in sorted(points.items())])


def traffic(figure):
    series = {}
    for r in figure["rows"]:
        if r["mode"] == "mrmw":
            series.setdefault((r["owner"], r["copies"]), []).append((r["pages"], r["on_wires"]))
    name = lambda owner, copies: f"to pages of {'its own node' if owner == 'n1' else 'another node'}, {copies_of(copies)}"
    yield "hotpot-traffic.svg", chart.lines(
        "Bytes on all links for each byte committed, MRMW", "pages of 4 KiB", "bytes/byte",
        [(name(*key), points, key[0] == "n1") for key, points in series.items()])


def promotion(figure):
    yield "hotpot-promotion.svg", chart.lines(
        "From the map without an owner until all it owned is served again", "MiB that it owned", "s",
        [("measured", [(r["owned_mib"], r["seconds"]) for r in figure["rows"]], False),
         ("goal: 2.3 s for a GiB", [(r["owned_mib"], r["goal_seconds"]) for r in figure["rows"]], True)])


def recovery(figure):
    yield "hotpot-recovery.svg", chart.lines(
        "A node comes back with its persistent memory", "MiB of its device, 70 % of them filled", "s",
        [("until it serves", [(r["device_mib"], r["served_seconds"]) for r in figure["rows"]], False),
         ("mount(2)", [(r["device_mib"], r["mount_seconds"]) for r in figure["rows"]], False)])


def pictures(result):
    """File names and what is in them."""
    yield from commits(result)
    yield from nodes(result)
    for key, plot in (("traffic", traffic), ("promotion", promotion), ("recovery", recovery)):
        if result.get(key, {}).get("rows"):
            yield from plot(result[key])
