# SPDX-License-Identifier: GPL-2.0
"""One guest of the cluster: a kernel of its own, on the network of all, driven by its agent."""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
RUNNER = TOP / "tools/guest.d/runner.py"


class Dead(Exception):
    """The guest is gone, or does not answer."""


class Guest:
    """Node `node` of the cluster, with its PM in `pm` (a directory), `smp` processors and more options of QEMU."""

    def __init__(self, name, node, pm, flavour, port, heard, smp=1, more=()):
        self.name, self.node, self.pm = name, node, pm
        self.commands = []
        self.answers = {}
        self.heard = heard          # called with (guest, label, line) for what runs by itself
        self.log = open(pm / "log", "ab", buffering=0)
        self.halted = threading.Event()
        network = (f"socket,id=cluster,mcast=230.77.0.1:{port},localaddr=127.0.0.1",
                   f"virtio-net-pci,netdev=cluster,mac=52:54:00:77:{node >> 8:02x}:{node & 255:02x}")
        self.process = subprocess.Popen(
            ["python3", "-B", str(RUNNER), "run", "--flavour", flavour, "--name", name, "--mem", "1G",
             "--smp", str(smp), "--pmem", "1x64M", "--pmem-dir", str(pm), "--timeout", "86400", "--stdin",
             "--no-leak-scan", "--quiet", "--qemu-opt=-netdev", f"--qemu-opt={network[0]}",
             "--qemu-opt=-device", f"--qemu-opt={network[1]}", *(f"--qemu-opt={word}" for word in more), "--", "selftests/campaign.d/agent"],
            cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for raw in self.process.stdout:
            self.log.write(raw)
            line = raw.decode(errors="replace").rstrip("\r\n")
            if not line.startswith("@"):
                continue
            label, _, text = line[1:].partition(" ")
            if not label.isdigit():
                self.heard(self, label, text)
            elif answers := self.answers.get(int(label)):
                answers.put(text)
        for answers in list(self.answers.values()):
            answers.put(None)

    @property
    def console(self):
        """What the kernel said."""
        path = TOP / "build/guest" / self.name / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def is_alive(self):
        """Whether there is a guest."""
        return self.process.poll() is None

    def begin(self, command):
        """Has the agent execute a command; `finish` tells how it went."""
        number = len(self.commands)
        self.commands.append(command)
        self.answers[number] = queue.Queue()
        try:
            self.process.stdin.write(f"{number} {command}\n".encode())
            self.process.stdin.flush()
        except OSError as error:
            raise Dead(f"{self.name}: {error}") from error
        return number

    def finish(self, number, timeout=600):
        """Output and status of a command."""
        end = time.monotonic() + timeout
        lines = []
        try:
            while True:
                text = self.answers[number].get(timeout=max(0.1, end - time.monotonic()))
                if text is None:
                    raise Dead(f"{self.name} has ended")
                if text.startswith("= "):
                    return "\n".join(lines), int(text[2:])
                lines.append(text)
        except queue.Empty:
            raise Dead(f"{self.name}: no answer in {timeout} s") from None
        finally:
            del self.answers[number]

    def succeed(self, number, timeout=600):
        """The output of a command, which must succeed."""
        output, status = self.finish(number, timeout)
        if status:
            raise AssertionError(f"{self.name}: {self.commands[number]!r}: status {status}\n{output}")
        return output

    def run(self, command, timeout=600):
        """Executes a command, which must succeed; its output."""
        return self.succeed(self.begin(command), timeout)

    def put_back(self, nice):
        """How far its emulator stands back behind others (0 to 19), where the machine schedules by sessions."""
        for pid in self._qemus():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/autogroup").write_text(str(nice))

    def _qemus(self):
        """Its emulator's process; none once it was killed."""
        wanted = str(self.pm / "pm0").encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (process / "cmdline").read_bytes() and b"qemu" in os.readlink(process / "exe").encode():
                    yield int(process.name)
            except OSError:
                pass

    def copy_pm(self, to):
        """Copies what /dev/pmem0 holds at this moment to a file."""
        qemus = list(self._qemus())
        for pid in qemus:
            os.kill(pid, signal.SIGSTOP)
        try:
            subprocess.run(["cp", "--sparse=always", self.pm / "pm0", to], check=True)
        finally:
            for pid in qemus:
                os.kill(pid, signal.SIGCONT)
        # The namespace's info block (struct nd_pfn_sb) says where the device begins in the nvdimm.
        with open(to, "r+b") as file:
            file.seek(4096)
            info = file.read(64)
            if not info.startswith(b"NVDIMM_PFN_INFO") and not info.startswith(b"NVDIMM_DAX_INFO"):
                raise AssertionError(f"{self.name}: no namespace on its nvdimm")
            start = int.from_bytes(info[56:64], "little")
        bare = Path(f"{to}.bare")
        subprocess.run(["dd", f"if={to}", f"of={bare}", f"skip={start}", "iflag=skip_bytes", "bs=1M", "conv=sparse",
                        "status=none"], check=True)
        bare.rename(to)

    def pull_plug(self):
        """The power fails: the guest's PM keeps what its processors stored. `wait` for the end."""
        # The runner ends its QEMU by SIGKILL.
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """Until there is no guest any more."""
        self.process.wait(30)

    def kill(self):
        """Pulls the plug, and waits."""
        self.pull_plug()
        self.wait()

    def has_halted(self):
        """Whether it stopped at the point that it was told."""
        return "as was asked for in debugfs" in self.console
