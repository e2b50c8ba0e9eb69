#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The kernel series of linux/: what each kernel does as a nested root, without and with patches.

Kernels come from tools/linux; one that is not in the cache is skipped. Used as boots.py.
"""
import os, re, subprocess, sys

import boots
from boots import boot, case, check, scratch
from roles import rows

THEIRS = set(boots.cases)
TOOL = os.path.dirname(boots.HERE) + "/tools/linux"

NET = ("ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; echo @ping; "
       "ping -c 3 10.0.2.2; echo @end; sleep 1; ")
LOOK = ("echo @dmesg; dmesg | grep -iE 'hyper-v|vmbus|mshv|unchecked|BUG|Oops|WARNING'; "
        "echo @vmbus; ls /sys/bus/vmbus/devices 2>/dev/null; echo @interrupts; cat /proc/interrupts; "
        "echo @end; sleep 1; ")


def kernel(series, *options):
    """The bzImage of a built kernel, or None with a line that says what is missing."""
    p = subprocess.run([TOOL, "path", series, *options], capture_output=True, text=True)
    path = (p.stdout.strip().splitlines() or [""])[-1] + "/bzImage"
    if p.returncode == 0 and os.path.exists(path):
        return path
    print(f"ok - {series} {' '.join(options)} # SKIP not built: "
          f"tools/linux build {' '.join((series,) + options)}")
    boots.checks += 1
    return None


def nested(image, *options, cpus=2, sh=LOOK + NET, timeout="240"):
    """A strict nested root with a network card of L0's, and what it asked of whom."""
    with scratch() as d:
        r = boots.nestor("run", "--role", "nested-root", "--kernel", image, "--quirks", "none",
                         "--cpus", str(cpus), "--net", "user", "--timeout", timeout,
                         "--trace", d + "/t.txt", *options, "--", "sh", "-c", sh)
        return r, rows(d + "/t.txt")


def by(seen, name):
    return {x[2] for x in seen if x[1] == name}


def check_works(r, seen):
    check("the command ends with 0", r.code == 0, r)
    check("its VMBus has devices", len(r.section("vmbus").split()) >= 6, r)
    check("its network card works", " 0% packet loss" in r.section("ping"), r)
    check("it posts to L0, not to L1", by(seen, "HvCallPostMessage") == {"L0"}, seen[-20:])
    check("it signals L0, not L1", by(seen, "HvCallSignalEvent") == {"L0"}, seen[-20:])
    check("VMBus programs L0's SynIC", "L0" in by(seen, "NESTED_SINT2"))
    check("nothing went wrong in the kernel",
          not re.search(r"BUG|Oops|WARNING|unchecked", r.section("dmesg")), r.section("dmesg"))


for series in ("6.1", "6.12", "7.3"):
    def works(series=series):
        image = kernel(series)
        if image:
            check_works(*nested(image))
    case(f"series-{series}-nested-root")(works)


@case("series-6.1-unpatched")
def unpatched():
    image = kernel("6.1", "--unpatched")
    if not image:
        return
    r, seen = nested(image, sh=LOOK)
    check("unpatched 6.1 boots as a nested root", r.code == 0, r)
    check("but has no VMBus", not r.section("vmbus").strip(), r)
    check("and never asks L0", not [x for x in seen if x[2] == "L0"])


@case("series-6.1-elsewhere")
def elsewhere():
    """The patched 6.1 as guest and as plain root asks what the unpatched one asks."""
    patched, plain = kernel("6.1"), kernel("6.1", "--unpatched")
    if not patched or not plain:
        return
    for role in ("guest", "root"):
        seen = []
        for image in (plain, patched):
            with scratch() as d:
                r = boot(image, "--role", role, "--trace", d + "/t.txt", sh="true")
                check(f"{role}: it boots", r.code == 0, r)
                seen.append(boots.normalise(d + "/t.txt"))
        check(f"{role}: the same list of interactions", seen[0] == seen[1], "\n".join(seen))


@case("series-6.1-vector")
def vector():
    """Where L0 takes only 0x31 to 0x34, patch 5 finds one of them."""
    image, without = kernel("6.1"), kernel("6.1", "--without", "5")
    if image:
        r, seen = nested(image, "--nested-vmbus-vector", "0x31-0x34")
        check_works(r, seen)
    if without:
        r, seen = nested(without, "--nested-vmbus-vector", "0x31-0x34", sh=LOOK, timeout="60")
        check("without patch 5 there is no VMBus", r.code != 0 or
              len(r.section("vmbus").split()) < 6, r)


# What a run shows when one patch is left out (the table of linux/README.md).
WITHOUT = {
    ("6.1", "1"): lambda r, seen: check("L0 is never asked", not [x for x in seen if x[2] == "L0"]),
    ("6.1", "2"): lambda r, seen: check("VMBus programs L1's SynIC", "L1" in by(seen, "SINT2"), seen),
    ("6.1", "3"): lambda r, seen: check("SIGNAL_EVENT goes to L1",
                                        "L1" in by(seen, "HvCallSignalEvent"), seen),
    ("6.1", "4"): lambda r, seen: check("no VMBus message is posted",
                                        not by(seen, "HvCallPostMessage"), seen),
    ("6.12", "1"): lambda r, seen: check("POST_MESSAGE goes to L1",
                                         by(seen, "HvCallPostMessage") == {"L1"}, seen),
    ("7.3", "1"): lambda r, seen: check("SIGNAL_EVENT goes to L1",
                                        "L1" in by(seen, "HvCallSignalEvent"), seen),
    ("7.3", "2"): lambda r, seen: check("L1's SCONTROL is never written",
                                        not [x for x in seen if x[:2] == ("msr.write", "SCONTROL")],
                                        seen),
}

for (series, number), judge in WITHOUT.items():
    def left_out(series=series, number=number, judge=judge):
        image = kernel(series, "--without", number)
        if image:
            r, seen = nested(image, sh=LOOK, timeout="60")
            judge(r, seen)
    case(f"series-{series}-without-{number}")(left_out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        for name in sorted(boots.cases.keys() - THEIRS):
            print(name, *boots.cases[name][:2])
        sys.exit(0)
    sys.exit(boots.main())
