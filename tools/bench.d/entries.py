# SPDX-License-Identifier: GPL-2.0
"""Latency by the number of entries of a memory node's page table.

m3 begins again with a little more than 100,000 pages of 64 KiB (or what the guest's memory allows) and promises ten
times as much, so its table has room for 1,000,000 entries. Allocations fill it: almost all are entries of pages that
nobody touched. m2 begins again as well, and has a table of 16. Reads go to pages that were written to, at random over all
allocations, on both.
"""

import re
from pathlib import Path

import figures
from harness import Case, Sample, Skip, alone, run

PAGE = 64 << 10
OVERCOMMIT = 10
FEW = 16
STEPS = (1_000, 100_000, 1_000_000)
TOUCHED = 2_000
# More pages that m3 promises than are wanted, so that the last allocations find a place as well.
SPARE = 16_384
# What the guest needs beside m3's pool.
RESERVE = 2 << 30
CONFIGFS = Path("/sys/kernel/config/legomem")


def most_entries():
    """What the guest's memory allows."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    available = int(re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)[1]) << 10
    pages = max(available - RESERVE, 0) // PAGE * OVERCOMMIT - SPARE
    return max(pages, 0) // 10_000 * 10_000


class Tables:
    """Two address spaces: `few` on m2, `many` on m3, each wholly there."""

    def __init__(self, lab, most):
        self.lab, self.most, self.state = lab, most, None

    def restart(self, node, size, overcommit):
        """What it held is gone."""
        at = CONFIGFS / node
        try:
            for attribute, value in (("power", 0), ("size", size), ("overcommit", overcommit), ("power", 1)):
                (at / attribute).write_text(f"{value}\n", encoding="ascii")
        except OSError as e:
            raise Skip(f"{node} does not start with {size >> 20} MiB: {e}") from e

    def fill(self, name, node, count, touched):
        """Allocates until the table of `node` has so many entries, and writes to some of the pages."""
        there = figures.statistics(node)["page_table_entries"]
        if there < count:
            self.lab.within("population", "fill", name, count - there, min(touched, count - there), timeout=900)
        there = figures.statistics(node)["page_table_entries"]
        if there != count:
            raise Skip(f"the page table of {node} has {there} entries, not {count}")

    def set_up(self):
        # Disks and spaces of other cases lie on these nodes: they are last, and those are not used any more.
        for name in ("bench1", "bench2"):
            run("potluck", "mem", "disk", "destroy", name, check=False)
        for name in ("bench", "ycsb"):
            run("potluck", "mem", "destroy", name, "--force", check=False)
        # A space that fills a region gets the next one elsewhere if it can. It cannot: m1 takes none, and m2 has room for
        # `few` only.
        run("potluck", "mem", "drain", "m1")
        self.restart("m2", FEW * PAGE, 100)
        self.restart("m3", (self.most + SPARE) // OVERCOMMIT * PAGE, 100 * OVERCOMMIT)
        # Where there is room: on m3.
        self.fill("few", "m3", FEW, FEW)
        run("potluck", "mem", "move", "few", 0, "m2", "--wait", 60)
        if figures.statistics("m2")["page_table_entries"] != FEW:
            raise Skip("the table of m2 has other entries than those that were moved there")

    def prepare(self, count):
        """Both tables as a case wants them; the first one sets up."""
        if self.state is None:
            try:
                self.set_up()
                self.state = "up"
            except Skip as e:
                self.state = e
        if isinstance(self.state, Skip):
            raise self.state
        self.fill("many", "m3", count, TOUCHED)

    def reads(self, name):
        return Sample.of_ns(self.lab.within("population", "read", name, 16, self.lab.n(600, 200)))


def cases(lab):
    limit = min(most_entries(), STEPS[1] if lab.quick else STEPS[-1])
    tables = Tables(lab, limit)
    for count in [*(step for step in STEPS if step < limit), limit]:
        yield Case(f"rread, 16 B, {count:,} page table entries", lambda: tables.reads("many"),
                   {f"{FEW} entries": alone(lambda: tables.reads("few"))}, 1.05,
                   prepare=lambda c=count: tables.prepare(c))
