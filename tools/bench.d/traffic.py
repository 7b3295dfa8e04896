# SPDX-License-Identifier: GPL-2.0
"""What goes over the network for each byte that is committed."""

import time
from pathlib import Path

from harness import run

CALLS = Path("/sys/kernel/debug/rdma_lite/calls")
# LITE_PORT_HOTPOT
PORT = "2"
PAGE = 4096
CHUNK, CHUNKS = 64 << 10, 12
PAGES, COPIES = (1, 8, 32), (1, 2, 3)
IDLE_SECONDS = 4


def on_wires(lab):
    """Bytes of all packets so far: each node's end of its link has sent them once."""
    return sum(int(Path(f"/sys/class/net/pl{lab.device(node)}/statistics/rx_bytes").read_text(encoding="ascii"))
               for node in lab.id)


def in_calls():
    """Bytes of requests of hotpot and of their replies so far."""
    lines = [line.split() for line in CALLS.read_text(encoding="ascii").splitlines()]
    at = {name: nr for nr, name in enumerate(lines[0])}
    return sum(int(f[at["request_bytes"]]) + int(f[at["reply_bytes"]])
               for f in lines[1:] if f[at["port"]] == PORT and f[at["way"]] == "made")


class Meter:
    """What programs send, less what is sent when none runs."""

    def __init__(self, lab):
        self.lab = lab
        begin, bytes_before = time.monotonic(), on_wires(lab)
        time.sleep(IDLE_SECONDS)
        self.idle = (on_wires(lab) - bytes_before) / (time.monotonic() - begin)

    def of(self, *args):
        begin, wires, calls = time.monotonic(), on_wires(self.lab), in_calls()
        run(*args)
        seconds = time.monotonic() - begin
        return on_wires(self.lab) - wires - self.idle * seconds, in_calls() - calls


def traffic(lab):
    """Of commits of n1, to pages that it owns and to pages of n2."""
    meter, rows = Meter(lab), []
    count = lab.n(100, 30)
    for mode in ("mrmw", "mrsw"):
        path = f"/mnt/n1/traffic-{mode}"
        run(lab.bin / "commits", "make", path, mode, CHUNKS * CHUNK, CHUNK)
        for owner in ("n1", "n2"):
            for copies in COPIES:
                for pages in PAGES:
                    commit = (lab.bin / "commits", "owner", path, lab.id[owner], pages, PAGE, copies)
                    # Both begin in the same way, and end so.
                    none, some = meter.of(*commit, 0), meter.of(*commit, count)
                    wires, calls = ((s - n) / (count * pages * PAGE) for s, n in zip(some, none))
                    rows.append({"mode": mode, "owner": owner, "copies": copies, "pages": pages,
                                 "on_wires": round(max(wires, 0), 3), "in_calls": round(max(calls, 0), 3)})
    return {"rows": rows, "commits": count, "idle_bytes_per_s": round(meter.idle),
            "note": "bytes of all packets on all links, less those of an idle lab; in brackets those of hotpot's requests and "
                    "replies"}
