# SPDX-License-Identifier: GPL-2.0
"""What is measured of disks in remote memory: by themselves, and as swap."""

import functools

from harness import Case, Sample, alone, run

SIZE = 48 << 20
OVER_A_NETWORK = ("nvme-rdma", "nvme-tcp", "rnbd", "nbd")
# Of a job that has this much memory, a quarter may be local.
WORKING_SET = 16 << 20
LOCAL = WORKING_SET // 4


@functools.cache
def ours(copies):
    """The device of a disk with so many copies, all of it written to once; made when it is first asked for."""
    name = f"bench{copies}"
    run("potluck", "mem", "disk", "create", name, "--size", SIZE, "--replicas", copies, "--node", "n1")
    with open(f"/sys/kernel/config/clio/{name}/device", encoding="ascii") as f:
        device = f.read().strip()
    run("dd", "if=/dev/urandom", f"of={device}", "bs=1M", f"count={SIZE >> 20}", "oflag=direct")
    return device


def access(lab, device, how, size, count, jobs=1):
    """Each job has one request under way; `how` is read or write, random or sequential."""
    return Sample.of_ns(run(lab.bin / "disk", *how.split(), size, count, jobs, SIZE, device))


def block(lab):
    for size, how, jobs, count in ((4096, "read random", 1, lab.n(500, 150)), (4096, "write random", 1, lab.n(500, 150)),
                                   (65536, "read sequential", 1, lab.n(200, 60)), (65536, "write sequential", 1, lab.n(200, 60)),
                                   (4096, "read random", 8, lab.n(1600, 400)), (4096, "write random", 8, lab.n(1600, 400))):
        many = jobs > 1
        metric = "per_operation" if many else "p50"
        verb, order = how.split()
        what = f"{size >> 10} KiB {order} {verb}" + (f", {jobs} at once, by ops/s" if many else "")
        one = lambda device, h=how, s=size, c=count, j=jobs: access(lab, device, h, s, c, j)
        yield Case(f"disk, {what}", lambda m=one: m(ours(1)),
                   {name: (name, one) for name in OVER_A_NETWORK}, metric=metric, best=(OVER_A_NETWORK, 1.0))
        yield Case(f"disk, two copies, {what}", lambda m=one: m(ours(2)),
                   {"one copy": alone(lambda m=one: m(ours(1)))}, 1.23, metric=metric)


def here(lab, program, cache, count):
    """A program with a local cache before remote memory, or, without one, in local memory."""
    return Sample.of_ns(lab.within("working_set", program, WORKING_SET, cache, count))


def swapping(lab, program, *args):
    """A program whose cgroup has a quarter of its memory, the rest of which goes to a swap device."""
    def on(device):
        run("mkswap", device)
        run("swapon", "-p", "10", device)
        try:
            return Sample.of_ns(run(lab.bin / "working_set", program, WORKING_SET, f"cgroup:{LOCAL}", *args, timeout=600))
        finally:
            run("swapoff", device, timeout=600)
    return on


def local_memory(lab):
    """Two programs through ExCache, beside the same in local memory and with swap; then swap to a disk of ours."""
    for program, name, count in (("cache", "1,000 accesses", lab.n(20, 10)), ("sort", "sort", 1)):
        swap = swapping(lab, program, count)
        local = alone(lambda p=program, c=count: here(lab, p, 0, c))
        yield Case(f"ExCache, 25 % of 16 MiB local, {name}",
                   lambda p=program, c=count: here(lab, p, LOCAL, c),
                   {"local memory": local, "swap to a ramdisk": ("ramdisk", swap), "swap to zram": ("zram", swap)},
                   {"local memory": 1.68})
        yield Case(f"swap to a disk, 25 % of 16 MiB local, {name}", lambda s=swap: s(ours(1)),
                   {"local memory": local, "swap to a ramdisk": ("ramdisk", swap)},
                   {"local memory": 1.68, "swap to a ramdisk": 1.1})


def cases(lab):
    yield from block(lab)
    yield from local_memory(lab)
