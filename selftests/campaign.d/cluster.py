# SPDX-License-Identifier: GPL-2.0
"""Three nodes in kernels of their own, and what their operator does."""

import json
import os
import random
import re
import shutil
import subprocess
import time

from guest import TOP, Dead, Guest
from tally import MODES

UUID = "7c0f9d2e-5a53-4a6c-9f1b-3c1de0a2b001"
MNT = "/mnt/potluck"
MOUNT = f"mkdir -p {MNT} && mount -t hotpot -o node=n,replicas=3,chunk_size=64K /dev/pmem0 {MNT}"
PIECES, CHUNK, LANES = 12, 65536, 3     # as in selftests/hotpot/crash_lane.c


class Cluster:
    """Nodes, their map, their lanes, and what was acknowledged to whom."""

    def __init__(self, directory, flavour):
        shutil.rmtree(directory, ignore_errors=True)
        self.directory, self.flavour = directory, flavour
        self.port = random.SystemRandom().randrange(20000, 60000)
        self.epoch = 0
        self.states = {}                # node id: up, down or out
        self.dispatcher = 1
        self.guests = {}                # lane: guest
        self.acked = {}                 # (mode, lane): the last record
        self.owners = set()             # nodes of the datasets' rows that are not out
        self.next_id = 1

    # --- nodes -------------------------------------------------------------------

    def begin(self):
        """All nodes up, the datasets made, all lanes busy."""
        guests = [self._new_node(lane) for lane in range(LANES)]
        for guest in guests:
            self.set_up(guest, is_new=True)
        self.join(guests)
        self.make_datasets()
        self.start_lanes(self.guests)

    def _heard(self, guest, label, text):
        mode, lane = label.split(":")
        key = (mode, int(lane))
        if found := re.fullmatch(r"ack (\d+)", text):
            self.acked[key] = max(self.acked[key], int(found[1]))

    def _boot(self, lane, node):
        """A guest for a node, with the PM that it has, or an empty one."""
        pm = self.directory / f"node{node}"
        pm.mkdir(parents=True, exist_ok=True)
        guest = Guest(f"campaign-{node}", node, pm, self.flavour, self.port, self._heard)
        self.guests[lane] = guest
        return guest

    def _new_node(self, lane):
        """A node that never was."""
        node, self.next_id = self.next_id, self.next_id + 1
        self.states[node] = "down"
        return self._boot(lane, node)

    def reboot(self, lanes):
        """The nodes of these lanes begin a new life with their PM; `join` is next."""
        guests = [self._boot(lane, self.guests[lane].node) for lane in lanes]
        for guest in guests:
            self.set_up(guest, is_new=False)
        return guests

    def join(self, guests):
        """The map has nodes up, which mount their spaces."""
        self.publish(**{f"n{guest.node}": "up" for guest in guests})
        self.all(dict.fromkeys(guests, MOUNT))

    def expel(self, victims, hide=None):
        """The map has nodes out; another one takes their role. `hide` does not hear of it."""
        nodes = [guest.node for guest in victims]
        if self.dispatcher in nodes:
            self.dispatcher = next(guest.node for guest in self.living() if guest.node not in nodes)
        self.owners.difference_update(nodes)
        self.publish(hide, **{f"n{node}": "out" for node in nodes})

    def replace(self, lanes):
        """New nodes take the places of those that are out."""
        guests = [self._new_node(lane) for lane in lanes]
        for guest in guests:
            self.set_up(guest, is_new=True)
        self.join(guests)

    def owning_lanes(self):
        """Lanes of nodes that own chunks."""
        return [lane for lane, guest in self.guests.items() if guest.node in self.owners]

    def set_up(self, guest, is_new):
        """Network, verbs device, node; formats the PM of a new one. The others, which commit meanwhile, stand back."""
        working = [other for other in self.living() if other is not guest]
        for other in working:
            other.put_back(15)
        guest.run("modprobe rdma_lite && modprobe hotpot && modprobe rdma_rxe")
        guest.run(f"ip link set eth0 up && ip addr add {address(guest.node)}/24 dev eth0 && "
                  "rdma link add rxe0 type rxe netdev eth0")
        guest.run("cd /sys/kernel/config/rdma_lite && mkdir n && cd n && "
                  f"echo {guest.node} >id && echo {address(guest.node)} >addr && echo {UUID} >cluster && "
                  f"echo 5000 >timeout_ms && echo 1 >power; status=$?; cd {TOP}; (exit $status)")
        if is_new:
            guest.run(f"mkfs.hotpot --force --cluster {UUID} --node-id {guest.node} /dev/pmem0")
        for other in working:
            other.put_back(0)

    def all(self, commands):
        """Executes commands by guest, all at once, which must succeed; what they said."""
        begun = [(guest, guest.begin(command)) for guest, command in commands.items()]
        return [guest.succeed(number) for guest, number in begun]

    def living(self):
        """The guests that are there."""
        return [guest for guest in self.guests.values() if guest.is_alive]

    # --- the map -----------------------------------------------------------------

    def publish(self, hide=None, **changes):
        """A new map to all guests but `hide`; changes are states by "n" and the id."""
        for name, state in changes.items():
            self.states[int(name[1:])] = state
        self.epoch += 1
        nodes = [{"id": node, "name": f"n{node}", "address": address(node), "port": 18515, "state": state,
                  "roles": ["hotpot", "hotpot-cd"] if node == self.dispatcher else ["hotpot"]}
                 for node, state in sorted(self.states.items())]
        text = json.dumps({"epoch": self.epoch, "nodes": nodes})
        self.all({guest: f"echo '{text}' | potluck map publish -" for guest in self.living()
                  if self.states[guest.node] != "down" and guest is not hide})

    # --- load --------------------------------------------------------------------

    def make_datasets(self):
        """Empty datasets of both modes, whose chunks are owned by the nodes that there are now."""
        guest = next(guest for guest in self.living() if guest.node == self.dispatcher)
        for mode in MODES:
            guest.run(f"rm -f {MNT}/{mode} && potluck dataset create --mode {mode} --replicas {LANES} "
                      f"--chunk-size {CHUNK} --size {PIECES * CHUNK} {MNT}/{mode}")
        self.acked = {(mode, lane): 0 for mode in MODES for lane in range(LANES)}
        self.owners = {guest.node for guest in self.living()}

    def start_lanes(self, lanes, copies=2):
        """Has the nodes of lanes commit records of both modes, from the last that was acknowledged on, with so many
        copies at least."""
        self.all({self.guests[lane]: " && ".join(
            f"lane {MNT} {mode} {lane} {self.acked[mode, lane] + 1} {copies}" for mode in MODES) for lane in lanes})

    def _signal(self, name, mode):
        self.all(dict.fromkeys(self.living(), f"signal_lanes {name} {mode}"))

    def pause(self, mode=""):
        """Stops the lanes of a mode, or all, where they are."""
        self._signal("STOP", mode)

    def resume(self):
        """Has all lanes go on that were paused."""
        self._signal("CONT", "")

    def quiesce(self):
        """Ends all lanes."""
        self.all(dict.fromkeys(self.living(), "quiesce"))

    def acknowledged(self):
        """Of all lanes, by mode."""
        return ", ".join(f"{mode} {[self.acked[mode, lane] for lane in range(LANES)]}" for mode in MODES)

    def await_progress(self, records, timeout):
        """Waits until so many records more are acknowledged on each lane of both modes."""
        wanted = {key: acked + records for key, acked in self.acked.items()}
        end = time.monotonic() + timeout
        while any(self.acked[key] < least for key, least in wanted.items()):
            for guest in self.guests.values():
                if not guest.is_alive:
                    raise Dead(f"{guest.name} ended by itself")
            if time.monotonic() > end:
                left = {key: least - self.acked[key] for key, least in wanted.items()}
                raise AssertionError(f"no progress in {timeout} s; records missing: {left}")
            time.sleep(0.05)

    def await_copies(self, timeout):
        """Waits until no page has too few copies, as its owner says."""
        end = time.monotonic() + timeout
        while True:
            said = map(json.loads, self.all(dict.fromkeys(self.living(), "potluck status --json")))
            missing = sum(dataset["missing"] for status in said for dataset in status["datasets"])
            if not missing:
                return
            if time.monotonic() > end:
                raise AssertionError(f"{missing} pages still have too few copies after {timeout} s")
            time.sleep(0.5)

    # --- what is left --------------------------------------------------------------

    def check_contents(self):
        """Every acknowledged record is there, whole, on every node."""
        for mode in MODES:
            acked = " ".join(str(self.acked[mode, lane]) for lane in range(LANES))
            self.all(dict.fromkeys(self.living(), f"selftests/hotpot/crash_lane look {MNT} {mode} {acked}"))

    def check_image(self, guest):
        """fsck.hotpot finds nothing on what a node's device holds now, as a power failure leaves it."""
        image = self.directory / "image"
        guest.copy_pm(image)
        done = subprocess.run([TOP / "build/target/release/fsck.hotpot", "-n", image], capture_output=True,
                              text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{guest.name}: fsck.hotpot: status {done.returncode}\n{done.stdout}{done.stderr}")
        image.unlink()

    def check_images(self):
        """As `check_image`, of all nodes."""
        for guest in self.living():
            self.check_image(guest)

    def check_devices(self):
        """Unmounts everywhere, has fsck.hotpot look at each device, and mounts again."""
        for guest in self.living():
            guest.run(f"umount {MNT}")
        for guest in self.living():
            guest.run("fsck.hotpot -n /dev/pmem0")
        for guest in sorted(self.living(), key=lambda guest: guest.node != self.dispatcher):
            guest.run(MOUNT)

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
        kill(self.living())


def kill(guests):
    """Guests lose their power at the same moment."""
    for guest in guests:
        guest.pull_plug()
    for guest in guests:
        guest.wait()


def address(node):
    """Of the node's network interface."""
    return f"10.77.{node >> 8}.{node & 255}"
