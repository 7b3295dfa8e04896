# SPDX-License-Identifier: GPL-2.0
"""Two guests, each a kernel of its own, that share a pmem device: calls and regions over it, without the network;
the death of one in the middle of that, and its next life. Prints KTAP."""

import argparse
import json
import random
import shutil
import time

from cluster import TOP, UUID, address
from guest import Guest

SIZE = "64M"
# An emulated guest with one processor has no atomic instructions but against itself: two.
PROCESSORS = 2


class Pair:
    """Two nodes that share memory."""

    def __init__(self, directory, flavour):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.directory, self.flavour = directory, flavour
        self.memory = directory / "shared"
        with open(self.memory, "wb") as file:
            file.truncate(int(SIZE[:-1]) << 20)
        self.port = random.SystemRandom().randrange(20000, 60000)
        self.epoch = 0
        self.guests = {}

    def boot(self, node):
        """A guest for a node, or the next one for it."""
        pm = self.directory / f"node{node}"
        pm.mkdir(exist_ok=True)
        more = ("-object", f"memory-backend-file,id=shared,share=on,mem-path={self.memory},size={SIZE}",
                "-device", "nvdimm,id=shared0,memdev=shared")
        guest = Guest(f"shared-{node}", node, pm, self.flavour, self.port, lambda *_: None, PROCESSORS, more)
        self.guests[node] = guest

    def set_up(self, node):
        """Network, verbs device, node."""
        guest = self.guests[node]
        guest.run("modprobe rdma_lite && modprobe rdma_rxe")
        guest.run(f"ip link set eth0 up && ip addr add {address(node)}/24 dev eth0 && "
                  "rdma link add rxe0 type rxe netdev eth0")
        guest.run("cd /sys/kernel/config/rdma_lite && mkdir n && cd n && "
                  f"echo {node} >id && echo {address(node)} >addr && echo {UUID} >cluster && "
                  "echo guests >transport && echo /dev/pmem1 >shared_memory && "
                  f"echo 5000 >timeout_ms && echo 1 >power; status=$?; cd {TOP}; (exit $status)")

    def publish(self):
        """A map with both nodes, to both."""
        self.epoch += 1
        nodes = [{"id": node, "name": f"n{node}", "address": address(node), "port": 18515, "state": "up",
                  "roles": []} for node in self.guests]
        for guest in self.guests.values():
            guest.run(f"echo '{json.dumps({'epoch': self.epoch, 'nodes': nodes})}' | potluck map publish -")

    def carried_by(self, node, transport, timeout=60):
        """Waits until that carries the connection of a node to the other."""
        end = time.monotonic() + timeout
        while True:
            peers = self.guests[node].run("cat /sys/kernel/debug/rdma_lite/peers")
            if f"n {3 - node} {transport} " in peers:
                return
            if time.monotonic() > end:
                raise AssertionError(f"node {node} is not connected by {transport}:\n{peers}")
            time.sleep(0.2)

    def talk(self, rounds=10):
        """Each uses the other's regions and calls it; what they said."""
        begun = [(guest, guest.begin(f"selftests/rdma_lite/guestpeer {3 - node} {rounds}"))
                 for node, guest in self.guests.items()]
        said = []
        for guest, number in begun:
            output, status = guest.finish(number)
            if status:
                raise AssertionError(f"{guest.name}: {output}")
            said.append(output)
        return said

    def log(self):
        """What the modules said."""
        lines = []
        for guest in self.guests.values():
            lines.append(guest.name)
            lines += [line for line in guest.console.splitlines() if "rdma_lite" in line][-12:]
        return lines


def main():
    """Does it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flavour", default="base")
    parser.add_argument("--lives", type=int, default=2, help="how often a node is killed and comes back")
    args = parser.parse_args()
    pair = Pair(TOP / "build/guest/shared", args.flavour)
    number = 0
    print("TAP version 13", flush=True)

    def step(name, action):
        nonlocal number
        number += 1
        for line in action() or ():
            print(f"# {line}")
        print(f"ok {number} {name}", flush=True)

    def both(action):
        for node in (1, 2):
            action(node)

    def cut(node):
        pair.guests[node].run("ip link set eth0 down")

    def die():
        # In the middle of what it writes.
        pair.guests[2].begin("selftests/rdma_lite/guestpeer 1 100000")
        pair.guests[1].begin("selftests/rdma_lite/guestpeer 2 100000")
        time.sleep(random.uniform(3, 8))
        pair.guests[2].kill()
        pair.carried_by(1, "none")

    def come_back():
        pair.boot(2)
        pair.set_up(2)
        pair.guests[1].run("pkill -x guestpeer; ip link set eth0 up")
        pair.publish()
        both(lambda node: pair.carried_by(node, "guests"))
        return pair.talk()

    try:
        both(pair.boot)
        both(pair.set_up)
        pair.publish()
        step("two guests connect over the device", lambda: both(lambda node: pair.carried_by(node, "guests")))
        step("calls and regions", pair.talk)
        both(cut)
        step("the same without a network", pair.talk)
        both(lambda node: pair.carried_by(node, "guests"))
        for life in range(args.lives):
            step(f"death {life + 1} is noticed", die)
            step(f"life {life + 2} connects over the device", come_back)
        print(f"1..{number}")
    except Exception as error:
        print(f"not ok {number} # {error}\n" + "\n".join(f"# {line}" for line in pair.log()), flush=True)
        raise SystemExit(1) from error
    finally:
        for guest in pair.guests.values():
            if guest.is_alive:
                guest.kill()


if __name__ == "__main__":
    main()
