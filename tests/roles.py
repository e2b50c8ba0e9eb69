#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Linux as root, nested root and L1VH: which hypervisor it talks to, and how. Used as boots.py."""
import os, re, subprocess, sys

import boots
from boots import boot, case, check, nestor, scratch

THEIRS = set(boots.cases)    # of boots.py itself, not to be run twice
GOLDEN_BOOTS = [("root", "6.1"), ("root", "6.12"), ("nested-root", "6.12")]
for role, k in GOLDEN_BOOTS:
    boots.golden_case(role, k)

# The second at the end: the last lines of a console are sometimes lost on several VPs (known).
LOOK = ("echo @dmesg; dmesg | grep -iE 'hyper-v|vmbus|mshv|BUG|Oops|WARNING'; echo @nproc; nproc; "
        "echo @interrupts; cat /proc/interrupts; echo @vmbus; ls /sys/bus/vmbus/devices 2>/dev/null; "
        "echo @mshv; ls /dev/mshv 2>/dev/null; echo @end; sleep 1; ")
NET = ("ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; echo @ping; "
       "ping -c 3 10.0.2.2; echo @end; sleep 1; ")

NESTED_REGISTERS = ("NESTED_SCONTROL", "NESTED_SIMP", "NESTED_SIEFP", "NESTED_SINT2")


def rows(path):
    """(event, register or call, by) of every register access and hypercall of a trace."""
    pattern = re.compile(r" (msr\.read|msr\.write|hypercall\.return) (?:msr|code)=(\S+) .*by=(\S+)")
    return [m.groups() for m in map(pattern.search, open(path)) if m]


def check_routing(path):
    seen = rows(path)
    wrong = [r for r in seen if r[1].startswith("NESTED_") != (r[2] == "L0") and
             r[0].startswith("msr")]
    check("each register is served by the hypervisor it belongs to", not wrong, wrong[:5])
    for name in NESTED_REGISTERS:
        check(f"{name} reaches L0", any(r[1] == name and r[2] == "L0" for r in seen))


def check_root(r, cpus, nested):
    dmesg, irq = r.section("dmesg"), r.section("interrupts")
    check("it says that it is the root", "running as root partition" in dmesg, r)
    check("it knows whether it is nested",
          ("running on a nested hypervisor" in dmesg) == nested, dmesg)
    check(f"{cpus} processors are up", r.section("nproc").strip() == str(cpus), r)
    check("the serial port's interrupt was mapped and comes",
          any(n > 0 for n in boots.counter(irq, r"\d+") for _ in [0]) or
          re.search(r"[1-9]\d* .*ttyS0", irq), irq)
    check("nothing went wrong in the kernel", not re.search(r"BUG|Oops|WARNING", dmesg), dmesg)


def root_case(kernel, cpus):
    @case(f"root-{kernel}-{cpus}vp", timeout=300)
    def run():
        r = boot(kernel, "--role", "root", "--cpus", str(cpus), sh=LOOK)
        check("the command ends with 0", r.code == 0, r)
        check_root(r, cpus, False)
        check("a plain root has no VMBus", not r.section("vmbus").strip(), r)


def nested_case(kernel, cpus):
    @case(f"nested-root-{kernel}-{cpus}vp", timeout=300)
    def run():
        with scratch() as d:
            r = boot(kernel, "--role", "nested-root", "--cpus", str(cpus), "--net", "user",
                     "--trace", d + "/t.txt", sh=LOOK + NET)
            check("the command ends with 0", r.code == 0, r)
            check_root(r, cpus, True)
            check("VMBus of L0 has devices", len(r.section("vmbus").split()) >= 6, r)
            check("its network card works", " 0% packet loss" in r.section("ping"), r)
            check_routing(d + "/t.txt")
        check("the routing table is shown", re.search(r"^ +SINT +\d+ ", r.err, re.M), r.err)
        check("the quirks this kernel needs are named",
              "quirk forward-post" in r.err and "quirk forward-signal" in r.err, r.err)


for k, n in (("6.12", 2), ("6.1", 2), ("6.12", 8)):
    root_case(k, n)
for n in (1, 2, 8):
    nested_case("6.12", n)


# What the root does with its disk; then with a message in the MSI-X table that it has not mapped.
# The table is in the first function's second BAR, entry 1 the first request queue's.
DEVICES = ("echo @disk; dd if=/dev/urandom of=/tmp/a bs=64k count=8 2>/dev/null; "
           "dd if=/tmp/a of=/dev/vda bs=64k conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; "
           "dd if=/dev/vda of=/tmp/b bs=64k count=8 2>/dev/null; cmp /tmp/a /tmp/b && echo same; ")
REFUSED = ("count() { grep virtio0-req.0 /proc/interrupts | sed 's/.*: *\\([0-9]*\\).*/\\1/'; }; "
           "D=$(devmem 0xc0004018 32); A=$(count); devmem 0xc0004018 32 254; "
           "(taskset 1 dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; "
           "echo ended >/tmp/ended) & sleep 3; echo @refused; echo $(($(count) - A)) "
           "$(devmem 0xc0004800 32) $(cat /tmp/ended 2>/dev/null); devmem 0xc0004018 32 $D; wait; "
           "echo $(($(count) - A)) $(devmem 0xc0004800 32) $(cat /tmp/ended); echo @end; ")


def root_devices_case(kernel, cpus):
    @case(f"root-devices-{kernel}", timeout=300)
    def run():
        with scratch() as d:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", d + "/a.qcow2", "64M"], check=True)
            r = boot(kernel, "--role", "root", "--cpus", str(cpus), "--disk", d + "/a.qcow2",
                     "--net", "user", "--append", "iomem=relaxed",
                     sh=DEVICES + NET + "echo @irq; grep virtio /proc/interrupts; " + REFUSED)
            check("the command ends with 0", r.code == 0, r)
            check("what was written to the disk is read", "same" in r.section("disk"), r)
            check("the image holds it", os.path.getsize(d + "/a.qcow2") > 512 * 1024)
        check("the network card works", " 0% packet loss" in r.section("ping"), r)
        for queue in ("virtio0-req.0", "virtio1-input.0", "virtio1-output.0"):
            check(f"MSI-X interrupts of {queue} come, mapped by the hypervisor",
                  re.search(rf"[1-9]\d* .*HV-PCI-MSI.* {queue}", r.section("irq")), r)
        refused = r.section("refused").split()
        check("an interrupt that is not mapped does not come and stays pending",
              refused[:2] == ["0", "0x00000002"], r)
        check("it comes when it is mapped again", refused[2:] == ["1", "0x00000000", "ended"], r)


root_devices_case("6.12", 2)
root_devices_case("6.1", 1)


@case("root-disk-refused")
def root_disk_refused():
    with scratch() as d:
        open(d + "/disk", "w").truncate(16 << 20)
        r = boot("6.12", "--role", "root", "--disk", d + "/disk,format=qcow2", sh="true")
        check("an image of another kind is refused in one line",
              r.code != 0 and "not in qcow2 format" in r.err and r.err.count("\n") == 1, r)


@case("nested-root-strict")
def strict():
    """Linux 6.12 posts without bit 31: strictly answered, it has no VMBus."""
    r = boot("6.12", "--role", "nested-root", "--quirks", "none", sh=LOOK)
    check("the command ends with 0", r.code == 0, r)
    check("VMBus cannot be reached", "Unable to connect to host" in r.section("dmesg"), r)
    check("no quirk is used", "quirk " not in r.err, r.err)


@case("nested-root-6.1")
def unaware():
    """Stock 6.1 does not know nested hypervisors: it is a plain root and has no VMBus."""
    with scratch() as d:
        r = boot("6.1", "--role", "nested-root", "--trace", d + "/t.txt", sh=LOOK)
        check("the command ends with 0", r.code == 0, r)
        check("it takes itself for a plain root",
              "running as root partition" in r.section("dmesg") and
              "nested hypervisor" not in r.section("dmesg"), r)
        check("no VMBus device", not r.section("vmbus").strip(), r)
        check("L0 is never asked", not [x for x in rows(d + "/t.txt") if x[2] == "L0"])


@case("root-ends")
def ends():
    for role, kernel in (("root", "6.12"), ("nested-root", "6.12"), ("root", "6.1")):
        r = boot(kernel, "--role", role, sh="poweroff -f")
        check(f"{role} {kernel}: power-off ends with 0", r.code == 0, r)
        r = boot(kernel, "--role", role, sh="reboot -f")
        check(f"{role} {kernel}: a reset ends with 100", r.code == 100, r)
        r = boot(kernel, "--role", role, "--append", "panic=-1",
                 sh="echo c > /proc/sysrq-trigger")
        check(f"{role} {kernel}: a panic ends with 101 and is told",
              r.code == 101 and "sysrq triggered crash" in r.err, r)


@case("root-cpu-hotplug")
def hotplug():
    for role in ("root", "nested-root"):
        r = boot("6.12", "--role", role, "--cpus", "2",
                 sh="cd /sys/devices/system/cpu/cpu1; echo 0 > online; cat online; nproc; "
                    "echo 1 > online; cat online; nproc; dmesg | grep -iE 'BUG|WARNING|Oops'")
        check(f"{role}: a processor goes and comes back", r.out.split()[:4] == ["0", "1", "1", "2"],
              r)


def linux7_case(role, cpus):
    @case(f"{role}-7.3-{cpus}vp", timeout=300, kernels=("7.3 --unpatched",))
    def run(kernel):
        net = () if role == "root" else ("--net", "user")
        with scratch() as d:
            r = boot(kernel, "--role", role, "--cpus", str(cpus), "--trace", d + "/t.txt", *net,
                     sh=LOOK + (NET if net else ""))
            check("the command ends with 0", r.code == 0, r)
            check("/dev/mshv is there", "/dev/mshv" in r.section("mshv"), r)
            check(f"{cpus} processors are up", r.section("nproc").strip() == str(cpus), r)
            check("nothing went wrong in the kernel",
                  not re.search(r"BUG|Oops|WARNING", r.section("dmesg")), r.section("dmesg"))
            if net:
                check("its network card works", " 0% packet loss" in r.section("ping"), r)
            if role == "nested-root":
                check_routing(d + "/t.txt")
                posts = [x for x in rows(d + "/t.txt") if x[1] == "HvCallPostMessage"]
                check("it posts to L0 itself", posts and all(x[2] == "L0" for x in posts))
                check("its lost bit 31 of SIGNAL_EVENT is made up for",
                      "quirk forward-signal" in r.err, r.err)
                check("and its forgotten SynIC", "quirk preenable-synic" in r.err, r.err)


for role in ("root", "nested-root", "l1vh"):
    for n in (1, 2, 8):
        linux7_case(role, n)


@case("root-7.3-power-off", kernels=("7.3 --unpatched",))
def linux7_power_off(kernel):
    for role in ("root", "nested-root"):
        r = boot(kernel, "--role", role, sh="poweroff -f")
        check(f"{role}: it powers off through its hypervisor",
              r.code == 0 and "powered off through its hypervisor" in r.err, r)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        for name in sorted(boots.cases.keys() - THEIRS):
            print(name, *boots.cases[name][:2])
        sys.exit(0)
    sys.exit(boots.main(GOLDEN_BOOTS))
