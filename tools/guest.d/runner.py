#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The host's half of `tools/guest run`: boot, watch the console, judge.

Runs inside the trixie root, as the first process of a PID namespace. The
guest's root file system is that root, read-only, with overlays that live in
the guest's memory; only the checkout is shared read-write.
"""

import argparse
import contextlib
import fcntl
import os
import re
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
GUESTS = TOP / "build" / "guest"
KEEP_GUEST_DIRS = 30

EXIT_PANIC, EXIT_SPLAT, EXIT_LEAK, EXIT_DIED, EXIT_TIMEOUT, EXIT_SETUP = (
    120, 121, 122, 123, 124, 125)

EPILOG = f"""\
The exit status is the command's own, unless the guest failed:
  {EXIT_PANIC}  the kernel panicked or oopsed
  {EXIT_SPLAT}  a splat: WARN, BUG, lockdep, KASAN, UBSAN, hung task, lockup, RCU stall
  {EXIT_LEAK}  kmemleak found memory that nothing points to (debug flavour)
  {EXIT_DIED}  the guest ended without the command's status
  {EXIT_TIMEOUT}  the time was over
  {EXIT_SETUP}  the guest could not be started
A single argument is a shell command line; several are one command.
Console, output and status stay in build/guest/NAME/ (build/guest/last).
In the guest: POTLUCK_FLAVOUR, POTLUCK_MODULES (directory of our .ko files; modprobe
knows them too), POTLUCK_TOP, PATH with build/target/release.
Environment: FLAVOUR, GUEST_MEM, GUEST_SMP, GUEST_TIMEOUT give defaults.
"""

PANIC = re.compile(r"Kernel panic - not syncing|^Oops: |kernel BUG at |general protection fault|"
                   r"BUG: unable to handle|BUG: kernel NULL pointer")
SPLAT = re.compile(
    r"------------\[ cut here \]|^WARNING: |^BUG: |^KASAN: |^UBSAN: |KFENCE: |"
    r"possible circular locking|possible recursive locking|inconsistent lock state|"
    r"possible irq lock inversion|suspicious RCU usage|"
    r"sleeping function called from invalid context|scheduling while atomic|"
    r"INFO: task .* blocked for more than|soft lockup|hard LOCKUP|"
    r"rcu: INFO: .* detected (expedited )?stall|self-detected stall|bad unlock balance|"
    r"INFO: trying to register non-static key|held lock freed|lock held when returning to user space|"
    r"still has locks held|Bad page state|ODEBUG: |Workqueue: .* hogged|BUG workqueue|"
    r"INFO: lockdep is turned off|BUG [\w-]+ \(.*\): |Objects remaining")
STAMP = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\](\[ *[TC]\d+\])? ?")


def parse(argv):
    p = argparse.ArgumentParser(
        prog="tools/guest", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="verb", required=True)
    r = sub.add_parser("run", help="boot a guest, run CMD in it as root", epilog=EPILOG,
                       formatter_class=argparse.RawDescriptionHelpFormatter)
    env = os.environ.get
    r.add_argument("--flavour", default=env("FLAVOUR", "base"), choices=["base", "debug", "kasan"])
    r.add_argument("--mem", default=env("GUEST_MEM", "2G"), help="memory (default 2G)")
    r.add_argument("--smp", default=env("GUEST_SMP", "2"), help="processors (default 2)")
    r.add_argument("--pmem", default="", metavar="NxSIZE",
                   help="N nvdimms of SIZE each: /dev/pmem0...; for instance 3x256M")
    r.add_argument("--pmem-dir", metavar="DIR",
                   help="keep the PM in DIR/pm0... between runs (default: fresh and thrown away)")
    r.add_argument("--timeout", type=int, default=int(env("GUEST_TIMEOUT", "900")),
                   metavar="S", help="seconds for the whole run (default 900)")
    r.add_argument("--interactive", action="store_true",
                   help="connect this terminal; without CMD a shell; Ctrl-] pulls the plug")
    r.add_argument("--stdin", action="store_true", help="CMD reads this standard input")
    r.add_argument("--name", help="name of the guest and its directory")
    r.add_argument("--no-leak-scan", action="store_true", help="skip kmemleak after CMD")
    r.add_argument("--allow", action="append", default=[], metavar="REGEX",
                   help="console lines that match are no splat")
    r.add_argument("--kopt", action="append", default=[], help="one more kernel option")
    r.add_argument("--qemu-opt", action="append", default=[], help="one more QEMU argument")
    r.add_argument("--quiet", action="store_true", help="only CMD's output when all is well")
    if "--" in argv:
        cut = argv.index("--")
        args, args.cmd = r.parse_args(argv[1:cut]) if argv[:1] == ["run"] else p.parse_args(argv[:cut]), argv[cut + 1:]
    else:
        args = p.parse_args(argv)
        args.cmd = []
    if not args.cmd and not args.interactive:
        r.error("no command: tools/guest run [options] -- CMD...")
    m = re.fullmatch(r"(\d+)[x×](\d+[MG])", args.pmem) if args.pmem else None
    if args.pmem and not m:
        r.error(f"--pmem {args.pmem}: expected NxSIZE, for instance 3x256M")
    args.pmem = (int(m[1]), m[2]) if m else (0, "")
    if not re.fullmatch(r"\d+[MG]?", args.mem):
        r.error(f"--mem {args.mem}: expected a size, for instance 2G")
    return args


def mib(size):
    return int(size[:-1]) * 1024 if size.endswith("G") else int(size.rstrip("M"))


def setup_error(text):
    print(f"potluck: guest: {text}", file=sys.stderr)
    sys.exit(EXIT_SETUP)


def has_kvm():
    # /dev/kvm may be there and open where a guest would still hang: ask the processor
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        flags = next((line for line in f if line.startswith("flags")), "")
    return bool({"vmx", "svm"} & set(flags.split())) and os.access("/dev/kvm", os.R_OK | os.W_OK)


class Console:
    """Writes the kernel's log to a file and remembers what no healthy kernel says."""

    def __init__(self, path, allow):
        self.path = path
        self.allow = [re.compile(a) for a in allow]
        self.panic = None
        self.splat = None
        self.lines = []
        self.file = open(path, "wb", buffering=0)

    def feed(self, pipe):
        rest = b""
        while data := os.read(pipe, 65536):
            self.file.write(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.judge(line.decode("utf-8", "replace").rstrip("\r"))
        self.judge(rest.decode("utf-8", "replace"))

    def judge(self, line):
        self.lines.append(line)
        text = STAMP.sub("", line)
        if any(a.search(text) for a in self.allow):
            return
        if self.panic is None and PANIC.search(text):
            self.panic = len(self.lines) - 1
        if self.splat is None and SPLAT.search(text):
            self.splat = len(self.lines) - 1

    def excerpt(self, at, before=3, after=60):
        return "\n".join("  | " + line for line in self.lines[max(0, at - before):at + after])


def prepare_pmem(args, where):
    count, size = args.pmem
    opts = []
    for i in range(count):
        path = where / f"pm{i}"
        want = mib(size) << 20
        if not path.exists():
            with open(path, "wb") as f:
                f.truncate(want)
        elif path.stat().st_size != want:
            setup_error(f"{path} has {path.stat().st_size} bytes, --pmem asks for {want}: "
                        "remove it or ask for its size")
        opts += ["-object", f"memory-backend-file,id=pm{i},share=on,mem-path={path},size={size}",
                 "-device", f"nvdimm,id=nvdimm{i},memdev=pm{i}"]
    return opts


def virtme_command(args, guest, boot, pmem_opts):
    kvm = has_kvm()
    mem = mib(args.mem)
    cmd = ["virtme-run", "--kimg", str(boot / "bzImage"), "--mods", "none", "--root", "/",
           "--force-9p", "--disable-microvm", "--show-boot-console",
           "--name", args.name, "--memory", f"{mem}M", "--cpus", args.smp]
    if not kvm:
        cmd.append("--disable-kvm")
    for top in ("etc", "usr", "var", "home", "mnt", "root"):
        if Path("/", top).is_dir():
            cmd += ["--overlay-rwdir", f"/{top}"]
    cmd += ["--rwdir", str(TOP)]
    # An emulated guest on a busy machine is slow, not stuck: stretch the detectors.
    # virtme says quiet: take that back, the console is what we judge by.
    # The root does not change below a guest: let it cache what it has read.
    kopts = ["rootflags=version=9p2000.L,trans=virtio,access=any,cache=loose,msize=262144",
             "loglevel=7", "oops=panic", "mitigations=off", "random.trust_cpu=on",
             "rcupdate.rcu_cpu_stall_timeout=90", "watchdog_thresh=40",
             "log_buf_len=4M", "brd.rd_nr=4", "8250.nr_uarts=1"]
    for kopt in kopts + args.kopt:
        cmd += ["--kopt", kopt]
    cmd += ["--script-sh", f"exec {shlex.quote(str(guest / 'run.sh'))}"]
    count, size = args.pmem
    # slots and maxmem leave room for the nvdimms above the memory
    maxmem = mem + (count * (mib(size) + 128) if count else 0) + 1024
    cmd += ["--qemu-opts", "-machine", "q35" + (",nvdimm=on" if count else ""),
            "-m", f"size={mem}M,slots={count + 2},maxmem={maxmem}M"]
    if not kvm:
        # emulated string instructions go byte by byte: the kernel copies faster without them
        cmd += ["-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm"]
    return cmd + pmem_opts + args.qemu_opt


def raw_terminal(guest_stdin, pull_plug):
    """Forward the terminal to the guest byte by byte; returns the undo function."""
    import termios
    import tty
    fd = sys.stdin.fileno()
    if not os.isatty(fd):
        setup_error("--interactive needs a terminal on standard input")
    saved = termios.tcgetattr(fd)
    tty.setraw(fd)
    attrs = termios.tcgetattr(fd)
    attrs[1] |= termios.OPOST | termios.ONLCR
    termios.tcsetattr(fd, termios.TCSANOW, attrs)

    def forward():
        while data := os.read(fd, 4096):
            if b"\x1d" in data:
                pull_plug()
                return
            os.write(guest_stdin, data)

    threading.Thread(target=forward, daemon=True).start()
    return lambda: termios.tcsetattr(fd, termios.TCSADRAIN, saved)


@contextlib.contextmanager
def locked(directory, wait=True):
    """Holds the lock of a directory; BlockingIOError if another process has it and we do not wait."""
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)


def forget_old_guests():
    """Removes the directories of all but the last guests, and of none that is running."""
    old = sorted((d for d in GUESTS.iterdir() if d.is_dir() and not d.is_symlink()),
                 key=lambda d: d.stat().st_mtime)
    for d in old[:-KEEP_GUEST_DIRS]:
        with contextlib.suppress(BlockingIOError), locked(d, wait=False):
            shutil.rmtree(d, ignore_errors=True)


def main():
    args = parse(sys.argv[1:])
    tree = TOP / "build" / f"kernel-{args.flavour}"
    boot = (tree / ".potluck" / "out").resolve()
    if not (boot / "bzImage").exists():
        setup_error(f"no {args.flavour} kernel yet: make kernel FLAVOUR={args.flavour}")
    modroot = TOP / "build" / f"modroot-{args.flavour}"
    ours = boot / "lib/modules"
    version = next(ours.iterdir()).name if ours.is_dir() else ""
    if not (modroot / "lib/modules" / version).is_dir():
        modroot = boot

    args.name = args.name or f"{args.flavour}-{time.strftime('%H%M%S')}-{secrets.token_hex(2)}"
    GUESTS.mkdir(parents=True, exist_ok=True)
    with locked(GUESTS):
        forget_old_guests()
        guest = GUESTS / args.name
        shutil.rmtree(guest, ignore_errors=True)
        guest.mkdir()
        # Held for as long as there is the guest: others leave its directory alone.
        guest_lock = os.open(guest, os.O_RDONLY)
        fcntl.flock(guest_lock, fcntl.LOCK_EX)
    last = GUESTS / f"last.{args.name}"
    last.symlink_to(args.name)
    last.rename(GUESTS / "last")

    pm_dir = Path(args.pmem_dir).absolute() if args.pmem_dir else guest
    pm_dir.mkdir(parents=True, exist_ok=True)
    pmem_opts = prepare_pmem(args, pm_dir)

    cmd = args.cmd or ["bash", "-i"]
    if len(cmd) == 1:
        cmd = ["bash", "-c", cmd[0]]
    size = shutil.get_terminal_size()
    env = {
        "POTLUCK_TOP": TOP, "POTLUCK_FLAVOUR": args.flavour,
        "POTLUCK_MODULES": TOP / "build" / f"modules-{args.flavour}",
        "GUEST_DIR": guest, "GUEST_MODROOT": modroot,
        "GUEST_TIMEOUT": max(1, args.timeout - max(20, args.timeout // 20)),
        "GUEST_LEAK_SCAN": "" if args.no_leak_scan else "1",
        "GUEST_TTY": f"{size.lines} {size.columns}" if args.interactive else "",
        "TERM": os.environ.get("TERM", "dumb"),
    }
    # What the tests take (Documentation/testing.md); the guest has no cache.
    env.update({k: v for k, v in os.environ.items()
                if k not in env and k != "POTLUCK_CACHE" and (k == "CI" or k.startswith("POTLUCK_"))})
    run = ["#!/bin/bash"] + [f"export {k}={shlex.quote(str(v))}" for k, v in env.items()]
    run.append(f"exec bash {shlex.quote(str(TOP / 'tools/guest.d/inside.sh'))} {shlex.join(cmd)}")
    (guest / "run.sh").write_text("\n".join(run) + "\n")
    (guest / "run.sh").chmod(0o755)

    begin = time.monotonic()
    console = Console(guest / "console.log", args.allow)
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    in_r, in_w = os.pipe()
    qemu = subprocess.Popen(virtme_command(args, guest, boot, pmem_opts), cwd="/",
                            stdin=in_r if args.interactive else None if args.stdin else subprocess.DEVNULL,
                            stdout=out_w, stderr=err_w, start_new_session=True)
    os.close(out_w)
    os.close(err_w)
    os.close(in_r)

    def pull_plug(*_):
        try:
            os.killpg(qemu.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    signal.signal(signal.SIGTERM, lambda *_: (pull_plug(), sys.exit(130)))
    restore = raw_terminal(in_w, pull_plug) if args.interactive else (lambda: None)
    timed_out = threading.Event()

    def over():
        timed_out.set()
        pull_plug()

    timer = threading.Timer(args.timeout, over)
    timer.daemon = True
    timer.start()
    reader = threading.Thread(target=console.feed, args=(err_r,), daemon=True)
    reader.start()
    with open(guest / "output.log", "wb", buffering=0) as log:
        while True:
            # QEMU's children may keep the pipe: its end is what counts
            ready, _, _ = select.select([out_r], [], [], 0.5)
            if ready:
                data = os.read(out_r, 65536)
                if not data:
                    break
                log.write(data)
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            elif qemu.poll() is not None:
                break
    qemu.wait()
    timer.cancel()
    reader.join(5)
    restore()
    if not args.pmem_dir:
        for pm in guest.glob("pm[0-9]*"):
            pm.unlink()
    sys.exit(verdict(args, guest, console, timed_out.is_set(), time.monotonic() - begin))


def boot_seconds(guest):
    """From the runner's first file to the guest's first, by the host's clock."""
    first, started = guest / "run.sh", guest / "started"
    return started.stat().st_mtime - first.stat().st_mtime if started.exists() else 0


def verdict(args, guest, console, timed_out, seconds):
    def failed(why, status, excerpt=None):
        print(f"\npotluck: guest {args.name} FAILED after {seconds:.0f} s: {why}", file=sys.stderr)
        if excerpt:
            print(excerpt, file=sys.stderr)
        print(f"potluck: the whole console: {guest.relative_to(TOP)}/console.log", file=sys.stderr)
        return status

    end = console.excerpt(max(0, len(console.lines) - 40), 0)
    path = guest / "status"
    status = int(path.read_text().strip() or EXIT_DIED) if path.exists() else None
    said = "" if status is None else f" (the command's status: {status})"
    if console.panic is not None:
        return failed("the kernel oopsed or panicked", EXIT_PANIC, console.excerpt(console.panic))
    if timed_out:
        if console.splat is not None:
            print(console.excerpt(console.splat), file=sys.stderr)
        return failed(f"time over ({args.timeout} s)", EXIT_TIMEOUT, end)
    if console.splat is not None:
        return failed("kernel splat" + said, EXIT_SPLAT, console.excerpt(console.splat))
    if status is None:
        return failed("it ended without a status", EXIT_DIED, end)
    leaks = guest / "kmemleak"
    if leaks.exists() and leaks.stat().st_size:
        text = leaks.read_text(errors="replace")
        lines = "\n".join("  | " + line for line in text.splitlines()[:80])
        return failed(f"{text.count('unreferenced object')} leaks" + said, EXIT_LEAK, lines)
    if not args.quiet:
        print(f"potluck: guest {args.name}: status {status} after {seconds:.0f} s"
              f" (up in {boot_seconds(guest):.0f} s)", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
