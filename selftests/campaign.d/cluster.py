# SPDX-License-Identifier: GPL-2.0
"""Three nodes in kernels of their own, and what their operator does."""

import json
import os
import random
import re
import shutil
import time

from guest import TOP, Dead, Guest

UUID = "7c0f9d2e-5a53-4a6c-9f1b-3c1de0a2b001"
MNT = "/mnt/potluck"
PIECES, CHUNK, LANES = 12, 65536, 3     # as in selftests/hotpot/crash_writer.c


class Cluster:
    """Nodes, their map, their lanes, and what was acknowledged to whom."""

    def __init__(self, directory, flavour, say):
        shutil.rmtree(directory, ignore_errors=True)
        self.directory, self.flavour, self.say = directory, flavour, say
        self.port = random.SystemRandom().randrange(20000, 60000)
        self.epoch = 0
        self.states = {}                # node id: up, down or out
        self.dispatcher = 1
        self.guests = {}                # lane: guest
        self.acked = [0] * LANES
        self.next_id = 1
        self.names = 0

    # --- nodes -------------------------------------------------------------------

    def _heard(self, guest, label, text):
        lane = int(label.removeprefix("lane"))
        if found := re.fullmatch(r"ack (\d+)", text):
            self.acked[lane] = max(self.acked[lane], int(found[1]))

    def boot(self, lane, node):
        """A guest for a node, with the PM that it has, or an empty one."""
        pm = self.directory / f"node{node}"
        pm.mkdir(parents=True, exist_ok=True)
        self.names += 1
        guest = Guest(f"campaign-{node}", node, pm, self.flavour, self.port, self._heard)
        self.guests[lane] = guest
        return guest

    def new_node(self, lane):
        """A node that never was."""
        node, self.next_id = self.next_id, self.next_id + 1
        self.states[node] = "down"
        return self.boot(lane, node)

    def set_up(self, guest, is_new):
        """Network, verbs device, node; formats the PM of a new one."""
        guest.run("modprobe rdma_lite && modprobe hotpot && modprobe rdma_rxe")
        guest.run(f"ip link set eth0 up && ip addr add {address(guest.node)}/24 dev eth0 && "
                  "rdma link add rxe0 type rxe netdev eth0")
        guest.run("cd /sys/kernel/config/rdma_lite && mkdir n && cd n && "
                  f"echo {guest.node} >id && echo {address(guest.node)} >addr && echo {UUID} >cluster && "
                  f"echo 5000 >timeout_ms && echo 1 >power; status=$?; cd {TOP}; (exit $status)")
        if is_new:
            guest.run(f"mkfs.hotpot --force --cluster {UUID} --node-id {guest.node} /dev/pmem0")

    def mount(self, guest):
        """Mounts the space of a node."""
        guest.run(f"mkdir -p {MNT} && mount -t hotpot -o node=n,replicas=3,chunk_size=64K /dev/pmem0 {MNT}")

    def living(self):
        """The guests that are there."""
        return [guest for guest in self.guests.values() if guest.is_alive]

    # --- the map -----------------------------------------------------------------

    def publish(self, **changes):
        """A new map to all guests; changes are states by "n" and the id."""
        for name, state in changes.items():
            self.states[int(name[1:])] = state
        self.epoch += 1
        nodes = [{"id": node, "name": f"n{node}", "address": address(node), "port": 18515, "state": state,
                  "roles": ["hotpot", "hotpot-cd"] if node == self.dispatcher else ["hotpot"]}
                 for node, state in sorted(self.states.items())]
        text = json.dumps({"epoch": self.epoch, "nodes": nodes})
        started = [(guest, guest.begin(f"echo '{text}' | potluck map publish -")) for guest in self.living()
                   if self.states[guest.node] == "up"]
        for guest, number in started:
            output, status = guest.finish(number)
            if status:
                raise AssertionError(f"{guest.name}: the map was refused: {output}")

    # --- load --------------------------------------------------------------------

    def make_dataset(self):
        """An empty dataset, whose chunks are owned by the nodes that there are now."""
        guest = next(guest for guest in self.living() if guest.node == self.dispatcher)
        guest.run(f"rm -f {MNT}/crash && potluck dataset create --replicas {LANES} --chunk-size {CHUNK} "
                  f"--size {PIECES * CHUNK} {MNT}/crash")
        self.acked = [0] * LANES

    def start_lane(self, lane):
        """Has the node of a lane commit records, from the last one that was acknowledged on."""
        self.guests[lane].run(f"lane {MNT} {lane} {self.acked[lane] + 1}")

    def quiesce(self):
        """Ends all lanes."""
        started = [(guest, guest.begin("quiesce")) for guest in self.living()]
        for guest, number in started:
            output, status = guest.finish(number)
            if status:
                raise AssertionError(f"{guest.name}: {output}")

    def await_progress(self, records, timeout, lanes=range(LANES)):
        """Waits until so many records more are acknowledged on each lane."""
        wanted = {lane: self.acked[lane] + records for lane in lanes}
        end = time.monotonic() + timeout
        while any(self.acked[lane] < least for lane, least in wanted.items()):
            for lane in wanted:
                if not self.guests[lane].is_alive:
                    raise Dead(f"{self.guests[lane].name} ended by itself")
            if time.monotonic() > end:
                left = {f"lane {lane}": least - self.acked[lane] for lane, least in wanted.items()}
                raise AssertionError(f"no progress in {timeout} s; records missing: {left}")
            time.sleep(0.05)

    def await_copies(self, timeout):
        """Waits until no page has too few copies, as its owner says."""
        end = time.monotonic() + timeout
        while True:
            missing = 0
            for guest in self.living():
                status = json.loads(guest.run("potluck status --json"))
                missing += sum(dataset["missing"] for dataset in status["datasets"])
            if not missing:
                return
            if time.monotonic() > end:
                raise AssertionError(f"{missing} pages still have too few copies after {timeout} s")
            time.sleep(0.5)

    # --- what is left --------------------------------------------------------------

    def check_contents(self):
        """Every acknowledged record is there, whole, on every node."""
        acked = " ".join(map(str, self.acked))
        for guest in self.living():
            output, status = guest.finish(guest.begin(f"selftests/hotpot/crash_writer look {MNT} {acked}"))
            if status:
                raise AssertionError(f"{guest.name}: {output}")

    def check_devices(self):
        """Unmounts everywhere, has fsck.hotpot look at each device, and mounts again."""
        for guest in self.living():
            guest.run(f"umount {MNT}")
        for guest in self.living():
            guest.run("fsck.hotpot -n /dev/pmem0")
        for guest in sorted(self.living(), key=lambda guest: guest.node != self.dispatcher):
            self.mount(guest)

    def describe(self):
        """What the nodes that are there say of themselves, for who looks for what went wrong."""
        lines = []
        for guest in self.living():
            lines.append(f"{guest.name}:")
            for command in ("potluck status", "dmesg | grep -E 'hotpot|rdma_lite' | tail -n 12"):
                try:
                    lines += guest.finish(guest.begin(command), 30)[0].splitlines()
                except Dead as error:
                    lines.append(str(error))
        return lines

    def end(self):
        """No guest is left."""
        for guest in self.living():
            guest.kill()


def address(node):
    """Of the node's network interface."""
    return f"10.77.{node >> 8}.{node & 255}"
