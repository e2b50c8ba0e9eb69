#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Linux as root, nested root and L1VH: which hypervisor it talks to, and how. Used as boots.py."""
import json, os, re, subprocess, sys

import boots
import vmbus
from boots import boot, case, check, nestor, scratch

THEIRS = set(boots.cases)    # of the other scripts, not to be run twice
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


def report(r):
    """What `run --json` says at the end."""
    lines = [l for l in r.err.splitlines() if l.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


def check_held(who, r, cpus):
    """Every page of the pool is in use or free, and nothing waits that should have been taken."""
    o = report(r)
    d, held = o.get("deposits", {}), o.get("held", {})
    # A page for each processor but the first, two for each VP but the first.
    check(f"{who}: the pool paid for its processors and nothing else",
          d.get("in_use") == 3 * (cpus - 1) <= d.get("pages", 0), d)
    check(f"{who}: no message waits and no statistics page is mapped",
          held.get("messages") == 0 and held.get("stats_pages") == 0, held)
    check(f"{who}: device interrupts are mapped once", 0 < held.get("interrupts", 0) < 32, held)


# A write of 0 to GUEST_OS_ID, as before kexec, is no part of these ends: what is mapped stays.
@case("root-ends", timeout=900)
def ends():
    for role, kernel in (("root", "6.12"), ("nested-root", "6.12"), ("root", "6.1")):
        who = f"{role} {kernel}"
        r = boot(kernel, "--role", role, "--cpus", "2", "--json", sh="poweroff -f")
        check(f"{who}: power-off ends with 0", r.code == 0, r)
        check_held(who, r, 2)
        r = boot(kernel, "--role", role, "--cpus", "2", "--json", sh="reboot -f")
        check(f"{who}: a reset ends with 100", r.code == 100, r)
        check_held(who, r, 2)


def panic_case(role, kernel):
    @case(f"{role}-panic-{kernel}")
    def run():
        r = boot(kernel, "--role", role, "--cpus", "2", "--append", "panic=-1",
                 sh="echo before; echo c > /proc/sysrq-trigger")
        check("status 101", r.code == 101, r)
        check("the report names the reason", "reported a panic: Kernel panic - not syncing: "
              "sysrq triggered crash\n" in r.err, r)
        m = re.search(r"crash registers: P0 (0x[0-9a-f]+) P1 (0x\S+) P2 (0x\S+) P3 (0x\S+) "
                      r"P4 (0x\S+)$", r.err, re.M)
        check("has the five parameters", m, r)
        p = [int(v, 16) for v in m.groups()] if m else []
        # Linux writes them once for the state, then with the text: its address and length.
        check("which say where the text is", p[:3] == [0, 0, 0] and p[3] and p[3] % 4096 == 0 and
              0 < p[4] <= 4096, r)
        check("and the kernel's own text", re.search(r"^  \| \[ .*RIP: 0033", r.err, re.M), r)
        check("the console has what was before", "before" in r.out, r)


for role, kernel in (("root", "6.12"), ("nested-root", "6.12"), ("root", "6.1")):
    panic_case(role, kernel)


# Linux 6.12 lets no processor go that is the target of a channel: those are moved to the first.
AWAY = """away() { for f in /sys/bus/vmbus/devices/*/channels/*/cpu; do
    [ -e $f ] && [ "$(cat $f)" = $1 ] && echo 0 >$f && echo $f
done; }
"""
# Each processor that can go, while the others work; then the rest once more at the same time.
HOTPLUG = AWAY + """cd /sys/devices/system/cpu; for i in 1 2; do for c in cpu[1-9]*; do away ${c#cpu} >/dev/null
    echo 0 >$c/online; a=$(cat $c/online) n=$(nproc); echo 1 >$c/online; echo @round $c $a $n $(cat $c/online) $(nproc)
done; done
for c in cpu[1-9]*; do echo 0 >$c/online; done; echo @round all 0 $(nproc) 0 0
for c in cpu[1-9]*; do echo 1 >$c/online; done; echo @round all 1 $(nproc) 0 0
echo @timers; i=0; while [ $i -lt $(nproc) ]; do taskset $(printf %x $((1 << i))) sleep 0.02 && echo $i; i=$((i + 1)); done
echo @dmesg; dmesg | grep -E 'BUG:|WARNING:|Oops|blocked for more|stuck|not responding'; echo @end; sleep 1; """

# Linux 6.1 frees a processor's hypercall page before its interrupts leave it, for which the root
# would make hypercalls: none but the first may have any.
AWAY_6_1 = ("--append", "irqaffinity=0")


def hotplug_case(role, kernel, cpus):
    @case(f"{role}-cpu-hotplug-{kernel}-{cpus}vp", suite="boot" if cpus < 4 else "soak", timeout=500,
          kernels=("7.3 --unpatched",) if kernel == "7.3" else ())
    def run(image=kernel):
        net = () if role == "root" else ("--net", "user")
        r = boot(image, "--role", role, "--cpus", str(cpus), "--json", *net,
                 *(AWAY_6_1 if kernel == "6.1" else ()), sh=HOTPLUG.replace("echo @dmesg", ("" if role == "root" else NET.replace("echo @end; ", "")) +
                                    "echo @dmesg"))
        check("the command ends with 0", r.code == 0, r)
        rounds = re.findall(r"^@round (cpu\d+) (\d) (\d+) (\d) (\d+)$", r.out, re.M)
        check("each processor goes and comes back, twice", sorted(rounds) == sorted(
            (f"cpu{c}", "0", str(cpus - 1), "1", str(cpus)) for c in range(1, cpus) for _ in (1, 2)), r)
        check("all but one go, and come back", "@round all 0 1 " in r.out and
              f"@round all 1 {cpus} " in r.out, r)
        check("timers run on each", r.section("timers").split() == [str(c) for c in range(cpus)], r)
        if net:
            check("the network still works", " 0% packet loss" in r.section("ping"), r)
        check("nothing in the kernel's log", not r.section("dmesg").strip(), r.section("dmesg"))
        if role == "l1vh":
            check("no message waits", report(r).get("held", {}).get("messages") == 0, r)
        elif kernel == "6.12":
            check_held(role, r, cpus)


for role, kernel in (("root", "6.12"), ("nested-root", "6.12"), ("root", "6.1"), ("l1vh", "7.3")):
    hotplug_case(role, kernel, 2)
for role, kernel in (("root", "6.12"), ("nested-root", "6.12"), ("l1vh", "7.3")):
    hotplug_case(role, kernel, 4)


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


# --- from one kernel into the next ---

KEXEC = "#!/bin/bash\n" + vmbus.WAIT + """
if grep -q second /proc/cmdline; then
    echo @second; nproc; cat /kept; grep ' / ' /proc/mounts; ls /sys/bus/vmbus/devices | wc -l
    modprobe virtio_net; wait_for /sys/class/net/eth0; ip link set eth0 up; dhclient eth0; ip -4 -o addr show eth0
    dmesg | grep -E 'BUG|Oops|WARNING:|hung|running (as root|on a nested)|Vmbus version'
    dd if=/dev/zero of=/big bs=1M count=64 conv=fsync 2>/dev/null; md5sum /big; stress_memory; echo @
    exit 0
fi
echo @first; nproc; ls /proc/1/exe; echo @
echo kept over kexec >/kept; sync
r=$(uname -r)
# The image's own initrd knows only disks on VMBus.
mkdir /t; cd /t; zcat /boot/initrd-$r | busybox cpio -idm 2>/dev/null
xz=$(echo /lib/modules/$r/kernel/drivers/block/virtio_blk.ko*); busybox unxz -c $xz >m/virtio_blk.ko; echo virtio_blk.ko >>m/list
find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >/initrd; cd /
kexec -l /boot/vmlinuz-$r --initrd=/initrd --append="console=ttyS0 quiet net.ifnames=0 root=$DISK second" &&
kexec -e
"""
# Most of the memory that the first kernel had, to find what it gave away and left behind.
TOUCH = "mount -t tmpfs -o size=90% t /mnt; d=/mnt/t; dd if=/dev/zero of=$d bs=1M count=512 2>/dev/null; ls -s $d"


def kexec_case(role, disk):
    @case(f"{role}-kexec", suite="soak", timeout=600)
    @vmbus.needs_debian
    def run(image):
        with scratch() as d:
            with open(d + "/test", "w") as f:
                f.write(KEXEC.replace("$DISK", disk).replace("stress_memory", TOUCH))
            r = vmbus.world(d, f"""
cp --sparse=always {image} root.img
printf 'write %s /etc/nestor-test\\nsif /etc/nestor-test mode 0100755\\n' $D/test | debugfs -w -f - root.img >/dev/null 2>&1
$N run --role {role} --kernel 6.12 --cpus 2 --memory 768M --disk root.img --net user --timeout 400 \\
    --append "root={disk} rw"
s=$?; echo; echo @status; echo $s; echo @
""", timeout=580)
        check("both processors are up before", r.section("first").startswith("2\n"), r)
        second = r.section("second")
        check("and after", second.startswith("2\n"), r)
        check("the second kernel is the root too", "running as root partition" in second and
              ("nested hypervisor" in second) == (role == "nested-root"), second)
        check("it finds its disk and what was written", "kept over kexec" in second, second)
        check("and the network", "inet 10.0.2.15/24" in second, second)
        if role == "nested-root":
            check("and the bus", "Vmbus version" in second, second)
        check("it can use all its memory", re.search(r"^5\d{5} /mnt/t", second, re.M), second)
        check("nothing went wrong in it", not re.search("BUG|Oops|WARNING:|hung", second), second)
        check("it powers off", r.section("status").strip() == "0", r)


kexec_case("root", "/dev/vda")
kexec_case("nested-root", "/dev/sda")

# --- for long ---

# Disk, network and processors that come and go at the same time. NESTOR_SOAK_MINUTES: how long.
# Each loop leaves what it has done in /run; a loop that stopped leaves no more.
SOAK = vmbus.WAIT + AWAY + r"""
exec 2>&1
DATA=/dev/$(cd /sys/block; grep -lx 1048576 sd?/size | cut -d/ -f1)
/etc/nestor-boot >/dev/null; dhclient eth0; hv_kvp_daemon; mount -t tmpfs none /mnt; cd /mnt
END=$(($(date +%s) + SECS)); on() { [ $(date +%s) -lt $END ]; }
bump() { echo $(($(cat $1 2>/dev/null || echo 0) + 1)) >$1; }
# The kernel counts the replies. ping waits for 200 of them and sends more if one is late; for the last one it waits two
# round trips only, less than it takes to take a processor away.
unanswered() { awk '/^Icmp:/ { if (!n++) split($0, name); else for (i = 2; i <= NF; i++) v[name[i]] = $i }
    END { print v["OutEchos"] - v["InEchoReps"] }' /proc/net/snmp; }
disk() { while on; do
    timeout 300 fio --name=v --filename=$DATA --direct=1 --ioengine=libaio --iodepth=16 --numjobs=1 --rw=randwrite         --bsrange=4k-64k --size=16m --verify=crc32c --verify_backlog=64 --fsync=64 --minimal >fio.out && bump fio.ok || { bump fio.bad; cat fio.out; }
done; }
net() { while on; do
    timeout 60 iperf3 -c 10.0.2.2 -p $PORT -t 5 $1 >iperf.out && bump net.ok || { bump net.bad; cat iperf.out; }
    before=$(unanswered); ping -f -c 200 -w 60 10.0.2.2 >flood.out; sleep 1; after=$(unanswered)
    grep -qE '^[2-9][0-9][0-9] packets transmitted' flood.out && [ $after = $before ] && bump ping.ok ||
        { bump ping.bad; echo "flood $before $after $(tail -2 flood.out | tr '\n' ' ')" >>floods; }
    [ "$1" ] && set -- || set -- -R
done; }
cpus() { while on; do for c in 1 2 3 4 5 6 7; do
    moved=$(away $c)
    echo 0 >/sys/devices/system/cpu/cpu$c/online && sleep 0.3 &&
        echo 1 >/sys/devices/system/cpu/cpu$c/online && bump cpu.ok || bump cpu.bad
    for f in $moved; do echo $c >$f; done; sleep 0.3
done; done; }
look() { grep -E 'HYP|HVS|LOC' /proc/interrupts; }
echo @begin; nproc; look; echo @
disk & net & cpus & wait
echo @end; nproc; for f in *.ok *.bad; do echo $f $(cat $f 2>/dev/null || echo 0); done; cat floods 2>/dev/null; echo @
# Each processor in turn: its timer, and a request that its own channel carries.
echo @each; for c in 0 1 2 3 4 5 6 7; do
    a=$(awk -v n=$((c + 2)) '/HYP|HVS/ {s += $n} END {print s}' /proc/interrupts)
    timeout 60 taskset -c $c sh -c 'sleep 0.1; dd if='$DATA' of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null &&
        ping -c 2 10.0.2.2 >/dev/null && echo done'
    echo $c $(($(awk -v n=$((c + 2)) '/HYP|HVS/ {s += $n} END {print s}' /proc/interrupts) - a))
done; echo @
echo @after; look; echo @
echo @dmesg; dmesg | grep -E 'BUG:|WARNING:|Oops|blocked for more|stuck|not responding|I/O error|EXT4-fs error|TX timeout|NETDEV WATCHDOG|abort'; echo @
echo asked; sleep $WAIT_HOST
"""


@case("nested-root-soak", suite="soak", timeout=4000)
@vmbus.needs_debian
def soak(image):
    minutes = float(os.environ.get("NESTOR_SOAK_MINUTES", "10"))
    port, name = 20000 + os.getpid() % 20000, f"soak-{os.getpid()}"
    seconds = int(minutes * 60)
    limit = seconds * 2 + 600
    with scratch() as d:
        sh = vmbus.guest(d, "soak.sh", f"PORT={port} SECS={seconds} WAIT_HOST=60\n" + SOAK)
        r = vmbus.world(d, f"""
qemu-img create -q -f qcow2 -b {image} -F raw root.qcow2 || exit 1
truncate -s 512M data.img
iperf3 -s -p {port} >server.log 2>&1 & server=$!
($N run --name {name} --role nested-root --kernel 6.12 --cpus 8 --memory 1G --disk root.qcow2,format=qcow2 \\
    --disk data.img --net user --timeout {limit} --json --append "root=LABEL=nestor-root rw" -- bash -c {sh} \\
    >out.txt 2>err.txt; echo $? >code) &
while ! [ -e code ] && ! grep -qs ^asked out.txt; do sleep 1; done
echo @stat1; $N stat {name} --json; echo @; echo @kvp; $N kvp get {name} OSName; echo @; sleep 10
echo @stat2; $N stat {name} --json; echo @; echo @stop; $N stop {name} --timeout 60; echo $?; echo @
while ! [ -e code ]; do sleep 1; done
cat out.txt; echo; echo @status; cat code; echo @; kill $server; cat err.txt >&2
""", timeout=limit + 60)
    r.err = "\n".join(l for l in r.err.splitlines() if not l.startswith("{"))
    check("the machine ends by itself", r.section("status").strip() == "0", r)
    begin, end = r.section("begin"), dict(re.findall(r"^(\w+\.\w+) (\d+)$", r.section("end"), re.M))
    check("eight processors at the beginning", begin.startswith("8\n"), begin)
    check("and at the end", r.section("end").startswith("8\n"), r.section("end"))
    for what, text in (("fio", "rounds of fio verify"), ("net", "iperf3 runs end well"),
                       ("ping", "floods of pings lose nothing"), ("cpu", "processors come back")):
        check(f"{end.get(what + '.ok', 0)} {text}, none fails",
              int(end.get(what + ".ok", 0)) > 0 and what + ".bad" not in end, r.section("end"))
    each = re.findall(r"^done\n(\d) (\d+)$", r.section("each"), re.M)
    check("each processor's timer, disk and network still work",
          [c for c, n in each if int(n) > 0] == [str(c) for c in range(8)], r.section("each"))
    check("nothing in the kernel's log", not r.section("dmesg").strip(), r.section("dmesg"))
    check("the key-value service answers", "Debian" in r.section("kvp"), r.section("kvp"))
    try:
        one, two = (json.loads(r.section(s)) for s in ("stat1", "stat2"))
    except ValueError:
        return check("its state can be read", False, r)
    beats = [c["packets"] for s in (one, two) for c in s["channels"] if c["device"] == "heartbeat"]
    check("the heartbeat goes on", len(beats) == 2 and beats[1] > beats[0], beats)
    check("no message waits", two["held"]["messages"] == 0, two["held"])
    check("the pool paid for eight processors and nothing else",
          two["deposits"]["in_use"] == 3 * 7, two["deposits"])
    check("it shuts down when asked", r.section("stop").strip().endswith("0"), r.section("stop"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        for name in sorted(boots.cases.keys() - THEIRS):
            print(name, *boots.cases[name][:2])
        sys.exit(0)
    sys.exit(boots.main(GOLDEN_BOOTS))
