# SPDX-License-Identifier: GPL-2.0
"""What is measured of remote memory: legomem on m1, m2, m3, clio_cn on n1."""


def cases(lab, case, sample, within):
    """Peers over the same path are perftest's one-sided reads and writes."""
    remote = lab.probe.with_name("remote")

    def ours(*args):
        return sample.of_ns(within("n1", remote, *args))

    n = lab.n(600, 150)
    alone = lambda f: (None, lambda _where: f())
    for size in (16, 4096):
        yield case(f"rread, {size} B", lambda s=size: ours("read", s, n),
                   {f"ib_read_lat -s {size}": alone(lambda s=size: lab.perftest("ib_read_lat", s, n))}, 1.15)
        yield case(f"rwrite, {size} B", lambda s=size: ours("write", s, n),
                   {f"ib_write_lat -s {size}": alone(lambda s=size: lab.perftest("ib_write_lat", s, n))}, 2.0)
    touches = lab.n(200, 100)
    yield case("first touch of a page, 16 B", lambda: ours("touch", 16, touches),
               {"warm rwrite, 16 B": alone(lambda: ours("write", 16, touches))}, 1.1)
    for clients in (16, 256):
        yield case(f"rread, 16 B, {clients} clients", lambda c=clients: ours("clients", c, 16, n),
                   {"one client": alone(lambda: ours("clients", 1, 16, n))}, 1.05)
    few = lab.n(100, 40)
    yield case("pointer chase, depth 16", lambda: ours("chase", 16, few),
               {"16 rreads": alone(lambda: ours("walk", 16, few)),
                "16x ib_read_lat -s 16": alone(lambda: lab.perftest("ib_read_lat", 16, n).times(16))}, 0.25)
    passes = lab.n(30, 10)
    yield case("ExCache, 25 % of 8 MiB local", lambda: ours("cache", 8 << 20, 2 << 20, passes),
               {"local memory": alone(lambda: ours("cache", 8 << 20, 0, passes))}, 1.68)
