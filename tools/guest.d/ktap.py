#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Count test results on standard input: ktap.py ktap|nextest NAME.

Prints one line: KIND NAME PASSED FAILED SKIPPED. Of nested KTAP only the
leaves count; a parent counts when it failed although no leaf did, and so does
each test that a plan announced and that never reported.
"""

import re
import sys

STAMP = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\](\[ *[TC]\d+\])? ?")
RESULT = re.compile(r"^( *)(ok|not ok)\s+\d+\b(.*)")
PLAN = re.compile(r"^( *)1\.\.(\d+)\b")
HEADER = re.compile(r"^( *)KTAP version ")
NEXTEST = re.compile(r"tests? run: (.*)")


def count_ktap(lines):
    passed = failed = skipped = 0
    seen = {}      # indent -> results since the parent level last reported
    here = {}      # indent -> results since the header at that level
    plans = {}     # indent -> announced number
    bad = {}       # indent -> failures among those

    def missing(indent):
        """Announced at this level and never reported."""
        return max(0, plans.pop(indent, 0) - here.pop(indent, 0))

    for line in lines:
        line = STAMP.sub("", line.rstrip("\r\n"))
        if m := HEADER.match(line):
            failed += missing(len(m[1]))
            here.pop(len(m[1]), None)
        elif m := PLAN.match(line):
            plans[len(m[1])] = int(m[2])
        elif m := RESULT.match(line):
            indent = len(m[1])
            ok, skip = m[2] == "ok", re.search(r"#\s*SKIP\b", m[3], re.I)
            children = bad_below = 0
            for deeper in [i for i in set(seen) | set(plans) if i > indent]:
                gone = missing(deeper)
                failed += gone
                children += seen.pop(deeper, 0) + gone
                bad_below += bad.pop(deeper, 0) + gone
            if children == 0:
                skipped += bool(skip)
                passed += ok and not skip
                failed += not ok and not skip
            elif not ok and not bad_below:
                failed += 1
            seen[indent] = seen.get(indent, 0) + 1
            here[indent] = here.get(indent, 0) + 1
            bad[indent] = bad.get(indent, 0) + (not ok and not skip)
    for indent in list(plans):
        failed += missing(indent)
    return passed, failed, skipped


def count_nextest(lines):
    passed = failed = skipped = 0
    for line in lines:
        if m := NEXTEST.search(re.sub(r"\x1b\[[0-9;]*m", "", line)):
            for number, what in re.findall(r"(\d+) (passed|failed|timed out|exec failed|skipped)", m[1]):
                if what == "passed":
                    passed += int(number)
                elif what == "skipped":
                    skipped += int(number)
                else:
                    failed += int(number)
    return passed, failed, skipped


def main():
    kind, name = sys.argv[1:3]
    lines = sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
    print(kind, name, *(count_ktap if kind == "ktap" else count_nextest)(lines))


if __name__ == "__main__":
    main()
