#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The kernel series of linux/: what each kernel does as a nested root, without and with patches.

  series.py --kernels SUITE...   arguments of tools/linux for each kernel these tests need

Kernels come from tools/linux; a case whose kernel is not in the cache is skipped. Used as boots.py.
"""
import contextlib, glob, os, re, shutil, signal, subprocess, sys, time

import boots
from boots import Run, boot, case, check, scratch

RETRY = os.environ.get("NESTOR_INCUBATOR_RETRY")
import roles        # for --kernels; what it imports takes that variable away
if RETRY is not None:
    os.environ["NESTOR_INCUBATOR_RETRY"] = RETRY

THEIRS = set(boots.cases)

NET = ("n=0; while [ ! -e /sys/class/net/eth0 ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done; "
       "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; echo @ping; "
       "ping -c 3 10.0.2.2; echo @end; sleep 1; ")
LOOK = ("echo @dmesg; dmesg | grep -iE 'hyper-v|vmbus|mshv|unchecked|BUG|Oops|WARNING|INFO:|stall'; "
        "echo @vmbus; ls /sys/bus/vmbus/devices 2>/dev/null; echo @mshv; ls /dev/mshv 2>/dev/null; "
        "echo @interrupts; cat /proc/interrupts; echo @end; sleep 1; ")
DISK = ("n=0; while [ ! -e /dev/sda ] && [ ! -e /dev/vda ] && [ $n -lt 100 ]; do sleep 0.1; "
        "n=$((n + 1)); done; D=$(ls /dev/[sv]da); echo @disk; "
        "dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null; "
        "dd if=/tmp/a of=$D bs=64k conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; "
        "dd if=$D of=/tmp/b bs=64k count=64 2>/dev/null; cmp /tmp/a /tmp/b && echo same; echo @end; ")
CLIENT = ("/mshv-client CASE >/said; echo @client; cat /said; echo @end; sleep 1; "
          "grep -q '^ok' /said && ! grep -q '^not' /said")
WRONG = r"BUG|Oops|WARNING|unchecked|INFO: "

EVENT = re.compile(r" (msr\.read|msr\.write|hypercall\.return|synic\.message|interrupt\.assert) "
                   r"(?:msr|code|vp)=(\S+) .*by=(\S+)")


def events(text):
    """(event; register, call or VP; by) of each line of a trace that has them."""
    return [m.groups() for m in map(EVENT.search, text.splitlines()) if m]


def trace_of(path):
    return open(path, errors="replace").read() if os.path.exists(path) else ""


def strict(image, *options, role="nested-root", cpus=2, sh=LOOK, client=None, modules=None, timeout=240,
           until=None, settle=2):
    """A machine without quirks, with a disk and a network card, and what it asked of whom. With
    until it is stopped when its trace has shown that, and some seconds have passed. With client
    it runs that case of tests/mshv/ and ends with 0 if that is good. With modules it has nothing
    but a shell and these, as files of its kernel's."""
    with scratch() as d:
        trace = d + "/t.txt"
        if client:
            options += ("--rootfs", boots.client_root(d + "/root"))
            sh = CLIENT.replace("CASE", client)
        if modules:
            files = [glob.glob(f"{os.path.dirname(image)}/modules/**/{m}.ko", recursive=True)[0] for m in modules]
            options += ("--rootfs", boots.busybox_root(d + "/root", "sh", "dmesg", "grep", "sleep", "cat", "sync",
                                                       "insmod", files=files))
        open(d + "/disk", "w").truncate(64 << 20)
        command = [boots.NESTOR, "run", "--role", role, "--kernel", image, "--quirks", "none",
                   "--cpus", str(cpus), "--net", "user", "--disk", d + "/disk", "--timeout",
                   str(timeout), "--trace", trace, *options, "--", "sh", "-c", sh]
        start = time.monotonic()
        with open(d + "/out", "wb") as out, open(d + "/err", "wb") as err:
            p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            while until and p.poll() is None:
                time.sleep(1)
                if until(events(trace_of(trace))):
                    time.sleep(settle)
                    p.send_signal(signal.SIGTERM)
                    break
            code = p.wait(timeout + 40)
        r = Run(code, open(d + "/out", "rb").read(), open(d + "/err", "rb").read(),
                time.monotonic() - start)
        for line in r.err.splitlines():
            if line.startswith("nestor: the incubator hung"):
                print("# " + line, flush=True)
        r.trace = trace_of(trace)
        return r, events(r.trace)


def by(seen, name):
    """Who served that register or call."""
    return {x[2] for x in seen if x[1] == name}


def check_works(r, seen, net=True):
    check("the command ends with 0", r.code == 0, r)
    check("its disk keeps what is written", "same" in r.section("disk"), r)
    check("its network card works", " 0% packet loss" in r.section("ping"), r)
    check("nothing went wrong in the kernel", not re.search(WRONG, r.section("dmesg")),
          r.section("dmesg"))


def check_nested(r, seen):
    check_works(r, seen)
    check("its VMBus has devices", len(r.section("vmbus").split()) >= 6, r)
    check("it posts to L0, not to L1", by(seen, "HvCallPostMessage") == {"L0"}, seen[-20:])
    check("it signals L0, not L1", by(seen, "HvCallSignalEvent") == {"L0"}, seen[-20:])
    check("VMBus programs L0's SynIC", "L0" in by(seen, "NESTED_SINT2"))


# --- with all patches ---

for series in ("6.1", "6.12", "7.3"):
    @case(f"series-{series}-nested-root", kernels=(series,))
    def works(image):
        check_nested(*strict(image, sh=DISK + NET + LOOK))

for role in ("root", "l1vh"):
    @case(f"series-7.3-{role}", kernels=("7.3",))
    def elsewhere_73(image, role=role):
        r, seen = strict(image, role=role, sh=DISK + NET + LOOK)
        check_works(r, seen)
        check("/dev/mshv is there", "/dev/mshv" in r.section("mshv"), r)
        check("it has a VMBus unless it is a plain root",
              (role == "root") == (not r.section("vmbus").strip()), r)
        check("no register of L0's is touched", not [x for x in seen if x[1].startswith("NESTED_")])


@case("series-6.1-unpatched", kernels=("6.1 --unpatched",))
def unpatched(image):
    r, seen = strict(image)
    check("unpatched 6.1 boots as a nested root", r.code == 0, r)
    check("but has no VMBus", not r.section("vmbus").strip(), r)
    check("and never asks L0", "L0" not in {x[2] for x in seen})


@case("series-6.1-elsewhere", timeout=600, kernels=("6.1 --unpatched", "6.1"))
def elsewhere(plain, patched):
    """The patched 6.1 as guest and as plain root asks what the unpatched one asks."""
    for role in ("guest", "root"):
        seen = []
        for image in (plain, patched):
            with scratch() as d:
                r = boot(image, "--role", role, "--trace", d + "/t.txt", sh="true")
                check(f"{role}: it boots", r.code == 0, r)
                seen.append(boots.normalise(d + "/t.txt"))
        check(f"{role}: the same list of interactions", seen[0] == seen[1], "\n".join(seen))


@case("series-6.1-vector", kernels=("6.1",))
def vector(image):
    """Where L0 takes only 0x31 to 0x34, patch 5 finds one of them, and takes it from nobody."""
    r, seen = strict(image, "--nested-vmbus-vector", "0x31-0x34", sh=DISK + NET + LOOK)
    check_nested(r, seen)
    check("it says which vector it has taken", "VMBus interrupts at vector 0x32" in r.section("dmesg"), r)
    check("the serial port's interrupt, at 0x34, still comes",
          re.search(r" [1-9]\d* .*ttyS0", r.section("interrupts")), r)


KEYS = """#!/bin/sh
export PATH=/bin; busybox mount -t proc proc /proc; busybox mount -t devtmpfs dev /dev
count() { busybox awk '/i8042/ && $1 == "1:" { print $2 }' /proc/interrupts; }
a=$(count); echo "@ready"
n=0; while [ "$(count)" -lt $((a + 12)) ] && [ $n -lt 100 ]; do busybox sleep 0.2; n=$((n + 1)); done
echo "@keys"; echo $(($(count) - a)); busybox dmesg | busybox grep -E 'i8042|AT .*keyboard'; echo "@"
busybox poweroff -f
"""


@case("series-6.1-irq1", kernels=("6.1",))
def irq1(image):
    """Patch 5 is about vectors of ISA interrupts. Nestor's machines have none at 1; QEMU's has a
    keyboard there. No hypervisor is in it: what is not a nested root must not notice anything."""
    with scratch() as d:
        for sub in ("bin", "dev", "proc"):
            os.makedirs(f"{d}/root/{sub}")
        shutil.copy(next(b for b in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(b)), d + "/root/bin/")
        os.symlink("busybox", d + "/root/bin/sh")
        with open(d + "/root/init", "w") as f:
            f.write(KEYS)
        os.chmod(d + "/root/init", 0o755)
        subprocess.run("find . | cpio -o -H newc 2>/dev/null >../initrd", shell=True, cwd=d + "/root", check=True)
        p = subprocess.Popen(["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "256", "-nodefaults",
                              "-display", "none", "-no-reboot", "-serial", f"file:{d}/console", "-monitor", "stdio",
                              "-kernel", image, "-initrd", d + "/initrd", "-append", "console=ttyS0"],
                             stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 200
        while p.poll() is None and time.monotonic() < end:
            time.sleep(0.5)
            if "@ready" in trace_of(d + "/console"):
                with contextlib.suppress(BrokenPipeError):    # it has seen enough and is off
                    p.stdin.write("sendkey a\n")
                    p.stdin.flush()
        if p.poll() is None:
            p.kill()
        r = Run(p.wait(), open(d + "/console", "rb").read(), p.stderr.read().encode(), 0)
    check("the keyboard is found", "keyboard" in r.section("keys"), r)
    check("its interrupts come", re.match(r"(1[2-9]|[2-9]\d)\n", r.section("keys")), r)


# After DISK and NET: the disk and the network stay busy.
BUSY = ("ping -A 10.0.2.2 >/dev/null & P=$!; (while :; do dd if=$D of=/dev/null bs=64k count=16 iflag=direct "
        "2>/dev/null; done) & P=\"$P $!\"; sleep 1; ")
HOTPLUG = (BUSY + "for i in 1 2 3; do echo 0 >/sys/devices/system/cpu/cpu1/online; sleep 0.3; "
           "echo 1 >/sys/devices/system/cpu/cpu1/online; sleep 0.3; done; kill $P; echo @nproc; nproc; ")

for series in ("6.1", "6.12", "7.3"):
    @case(f"series-{series}-hotplug", kernels=(series,))
    def hotplug(image):
        r, seen = strict(image, sh=DISK + NET + HOTPLUG + LOOK)
        check_nested(r, seen)
        check("the processor is back", r.section("nproc").strip() == "2", r)

    @case(f"series-{series}-ends", timeout=600, kernels=(series,))
    def ends(image):
        """Whatever ends it, it takes VMBus down on the way without going wrong."""
        for what, sh, code in (("power-off", "poweroff -f", 0), ("a reset", "reboot -f", 100),
                               ("a panic", "echo c >/proc/sysrq-trigger", 101)):
            r, seen = strict(image, "--append", "panic=-1", sh=sh)
            check(f"{what} ends with {code}", r.code == code, r)
            if code != 101:
                check("and nothing goes wrong before", not re.search(WRONG, r.out + r.err), r)


# --- load, under a kernel that watches itself ---

LOAD = ("echo @config; zcat /proc/config.gz | grep -E '^CONFIG_(KASAN|PROVE_LOCKING|DEBUG_ATOMIC_SLEEP)='; echo @end; "
        "ping -A -s 1400 10.0.2.2 >/tmp/pings & P=$!; "
        "for i in 1 2 3 4 5 6; do for j in 0 1 2 3; do (dd if=/tmp/a of=$D bs=64k seek=$((j * 64)) conv=fsync; "
        "dd if=$D of=/dev/null bs=4k skip=$((j * 1024)) count=256 iflag=direct) 2>/dev/null & L=\"$L $!\"; done; "
        "[ $i != 3 ] || { echo 0 >/sys/devices/system/cpu/cpu1/online; sleep 1; "
        "echo 1 >/sys/devices/system/cpu/cpu1/online; }; wait $L; L=; done; "
        "kill $P; wait $P; echo @load; grep -c 'bytes from' /tmp/pings; echo @end; ")

for series in ("6.1", "7.3"):
    @case(f"series-{series}-debug", "soak", timeout=1900, kernels=(f"{series} --flavour debug",))
    def watched(image):
        r, seen = strict(image, "--memory", "1G", "--append", "rcupdate.rcu_cpu_stall_suppress=1",
                         sh=DISK + NET + LOAD + LOOK, timeout=1800)
        check_nested(r, seen)
        check("the kernel watches itself", len(r.section("config").split()) == 3, r)
        check("the network answered while disks were busy", int(r.section("load") or 0) > 100, r)


# --- one kernel after another in the same machine ---

# The processor that crashes is the crash kernel's first. Of a root's of 6.1 it has to be 0: linux/README.md.
KEXEC = """#!/bin/bash
A="console=ttyS0 root=/dev/sda rootwait rw"
w=$(grep -oE 'first|second|third' /proc/cmdline)
echo "@$w"; cat /kept; [ -e /proc/vmcore ] && echo "has a vmcore"; ls /sys/bus/vmbus/devices | wc -l
n=0; while [ ! -e /sys/class/net/eth0 ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ping -c 3 10.0.2.2 | grep loss
dmesg | grep -E 'BUG|Oops|WARNING|unchecked|INFO:'; echo @
echo "kept by the $w" >/kept; sync
case $w in
first) kexec -s -l /boot/series --append="$A second crashkernel=192M" && kexec -e ;;
second) kexec -s -p /boot/series --append="$A third maxcpus=1 reset_devices" &&
	taskset -c 0 sh -c 'echo c >/proc/sysrq-trigger' ;;
esac
"""

def on_disk(debian, image, script, *options):
    """A nested root whose own disk holds the system, the kernel and what it runs."""
    with scratch() as d:
        with open(d + "/test", "w") as f:
            f.write(script)
        r = boots.world(d, f"""
cp --sparse=always {debian} root.img
printf 'write %s /etc/nestor-test\\nsif /etc/nestor-test mode 0100755\\nwrite %s /boot/series\\n' $D/test {image} |
    debugfs -w -f - root.img >/dev/null 2>&1
$N run --role nested-root --kernel {image} --quirks none --cpus 2 --memory 1G --disk root.img --net user \\
    {" ".join(options)} --trace $D/t.txt --timeout 400 --append "root=/dev/sda rootwait rw first"
s=$?; echo; echo @status; echo $s; echo @
""")
        r.trace = trace_of(d + "/t.txt")
    return r


for series in ("6.1", "6.12", "7.3"):
    @case(f"series-{series}-kexec", timeout=600, kernels=(series,))
    @boots.needs_debian
    def kexec(debian, image, series=series):
        # Of the quirks only the one for what no patch here mends: see kexec-donated.
        r = on_disk(debian, image, KEXEC, "--donated-pages", "ignore", "--quirks", "kexec-pool")
        for word, before in (("first", ""), ("second", "first"), ("third", "second")):
            text = r.section(word)
            check(f"{word} kernel: VMBus has devices", re.search(r"^([6-9]|\d\d)$", text, re.M), r)
            check(f"{word} kernel: the network card works", " 0% packet loss" in text, text)
            check(f"{word} kernel: the disk has what was written before", f"kept by the {before}" in text or
                  not before, text)
            check(f"{word} kernel: nothing went wrong", not re.search(WRONG, text), text)
        check("the third one comes from a crash", "has a vmcore" in r.section("third"), r)
        check("it powers off, and the status tells of the crash", r.section("status").strip() == "101" and
              "powered off" in r.summary(), r)
        for page in ("NESTED_SIMP", "NESTED_SIEFP"):
            # The processor that crashed is the one that goes on. A root 7.3 does not tell VMBus of a
            # crash, so that the crash kernel finds it as it was.
            crash = [1] if series == "7.3" else [0, 1]
            values = [[int(v, 16) for v in re.findall(rf"/vp{vp} msr.write msr={page} value=(\S+) ",
                                                      r.trace)] for vp in (0, 1)]
            check(f"{page} is never moved", all(len({v & ~1 for v in vs}) == 1 for vs in values), values)
            check(f"{page} is disabled before the next kernel enables it",
                  [1, 0, 1, *crash] in [[v & 1 for v in vs] for vs in values], values)


DONATED = """#!/bin/bash
grep -q second /proc/cmdline && { ls -R /usr >/dev/null; exit 0; }
kexec -s -l /boot/series --append="console=ttyS0 root=/dev/sda rootwait rw second" && kexec -e
"""


for series in ("6.1", "6.12", "7.3"):
    @case(f"series-{series}-kexec-donated", "soak", timeout=600, kernels=(series,))
    @boots.needs_debian
    def kexec_donated(debian, image):
        """What no patch here mends: the next kernel takes pages that the one before has deposited."""
        r = on_disk(debian, image, DONATED)
        check("the second kernel is stopped at a page that was given away",
              "touched memory it had given away" in r.err, r)


# --- what a run shows when one patch is left out: the table of linux/README.md ---

def posted(seen):
    return "L0" in by(seen, "HvCallPostMessage")


def wrong_vp(r, seen):
    """Only processor 0 runs, and L0 knows it as 1."""
    return posted(seen) and ("synic.message", "1", "L0") not in seen


def pick(r, seen):
    return "0" in r.section("moved").split()


# Channels of processor 3 move when it goes: where to?
MOVES = ("sleep 2; echo @moved; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do for c in /sys/bus/vmbus/devices/*/channels/*/cpu; "
         "do echo 3 >$c; done 2>/dev/null; L=$(grep -lx 3 /sys/bus/vmbus/devices/*/channels/*/cpu); "
         "echo 0 >/sys/devices/system/cpu/cpu3/online; cat $L; echo 1 >/sys/devices/system/cpu/cpu3/online; "
         "done; echo @end; ")

REVERSED = ("--nested-vp-index", "reversed", "--append", "maxcpus=1")

def client_failed(r, seen):
    return "not ok - " in r.section("client")


# Attempts to load VMBus that fail, and what they cost: also for CPUs that are not running.
ATTEMPTS, ATTEMPTS_CPUS = 30, 32
LOADS = ("""
attempts() { i=0; while [ $i -lt $1 ]; do insmod /hv_vmbus.ko 2>/dev/null && echo loaded; i=$((i + 1)); done; }
count() { sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; echo "@$1"; cat /proc/zoneinfo; echo @end; }
dmesg -n 1; attempts 10; count before; attempts %d; count after; echo @modules; grep -c hv_vmbus /proc/modules
echo @end; sleep 1; true""" % ATTEMPTS)


def lost(r):
    """kB between the two counts; 0 if it did not get there. Free is also what a CPU keeps at hand:
    /proc/meminfo leaves that out, and it grows to megabytes while modules come and go."""
    kb = [sum(map(int, re.findall(r"^ *(?:pages free|count:) +(\d+)$", r.section(s), re.M))) * 4
          for s in ("before", "after")]
    print(f"# kB free: {kb}", flush=True)
    return kb[0] - kb[1] if all(kb) else 0


# series, patch | what a run without it shows, and one with it does not | of the run and its trace |
# options of the run; until: it can be stopped when the trace shows it; both: what both runs show;
# flavour: of the kernels
WITHOUT = (
    ("6.1", 1, "L0 is never asked", lambda r, seen: "L0" not in {x[2] for x in seen}, {}),
    ("6.1", 2, "VMBus programs L1's SynIC", lambda r, seen: "L1" in by(seen, "SINT2"),
     {"until": lambda seen: "L1" in by(seen, "SINT2")}),
    ("6.1", 3, "SIGNAL_EVENT goes to L1", lambda r, seen: "L1" in by(seen, "HvCallSignalEvent"),
     {"until": lambda seen: "L1" in by(seen, "HvCallSignalEvent")}),
    ("6.1", 4, "no VMBus message is posted", lambda r, seen: not by(seen, "HvCallPostMessage"), {}),
    ("6.1", 5, "VMBus says hello and no interrupt of L0's comes",
     lambda r, seen: posted(seen) and not [x for x in seen if x[0] == "interrupt.assert" and x[2] == "L0"],
     {"options": ("--nested-vmbus-vector", "0x31-0x34"), "until": posted, "settle": 10}),
    ("6.12", 1, "POST_MESSAGE goes to L1", lambda r, seen: by(seen, "HvCallPostMessage") == {"L1"}, {}),
    ("6.12", 2, "the answer to the first message goes to a processor that is not running", wrong_vp,
     {"options": REVERSED, "until": posted, "settle": 10}),
    ("7.3", 1, "SIGNAL_EVENT goes to L1", lambda r, seen: "L1" in by(seen, "HvCallSignalEvent"),
     {"until": lambda seen: "L1" in by(seen, "HvCallSignalEvent")}),
    ("7.3", 2, "L1's SynIC is never enabled",
     lambda r, seen: not [x for x in seen if x[:2] == ("msr.write", "SCONTROL")], {}),
    ("7.3", 3, "a page fault in mshv_isr ends a reboot of a busy machine",
     lambda r, seen: "RIP: 0010:mshv_isr" in r.out + r.err,
     {"options": ("--append", "panic=-1"), "sh": DISK + NET + BUSY + "reboot -f", "ends": 100}),
    ("7.3", 4, "no intercept is reported any more to a CPU that one of a machine that is gone came to", client_failed,
     {"role": "root", "client": "late-intercept"}),
    ("7.3", 5, "a page that the hypervisor has is taken for free memory",
     lambda r, seen: "touched memory it had given away" in r.err,
     {"role": "root", "client": "failed-deposit",
      "options": ("--fail", "DepositMemory+100", "--append", "init_on_free=1"),
      "both": ("a deposit fails half way", lambda r: "hypercall.fail code=HvCallDepositMemory" in r.trace)}),
    ("7.3", 6, "pages stay where a mapping failed half way", client_failed,
     {"role": "root", "client": "half-mapped"}),
    ("7.3", 7, "doorbells are lost after a CPU was offline", client_failed,
     {"role": "root", "client": "doorbells-cpu-offline"}),
    ("7.3", 8, "the answer to the first message goes to a processor that is not running", wrong_vp,
     {"options": REVERSED, "until": posted, "settle": 10}),
    ("7.3", 9, "each attempt of VMBus to connect that fails costs memory for each CPU",
     lambda r, seen: lost(r) > ATTEMPTS * ATTEMPTS_CPUS * 8 / 2,
     {"role": "guest", "flavour": "modules", "modules": ("hv_vmbus",), "cpus": ATTEMPTS_CPUS, "sh": LOADS,
      "options": ("--fail", "PostMessage=INVALID_CONNECTION_ID", "--append", "maxcpus=1"),
      "both": ("all attempts fail", lambda r: r.section("modules").strip() == "0" and "loaded" not in r.out)}),
    ("7.3", 10, "the input of CREATE_VP holds what the call before it left",
     lambda r, seen: "hypercall.leftover code=HvCallCreateVp" in r.trace, {"role": "root", "client": "vps"}),
    ("7.3", 11, "a channel moves to the connect CPU although there are others", pick,
     {"cpus": 4, "sh": MOVES}),
)

for series, number, what, shows, how in WITHOUT:
    flavour = f" --flavour {how['flavour']}" if "flavour" in how else ""

    @case(f"series-{series}-without-{number}", timeout=600,
          kernels=(f"{series}{flavour} --without {number}", series + flavour))
    def left_out(image, patched, what=what, shows=shows, how=dict(how)):
        how.pop("flavour", None)
        both, holds = how.pop("both", (None, None))
        options, until, ends = how.pop("options", ()), how.pop("until", None), how.pop("ends", 0)
        r, seen = strict(image, *options, **how, until=until)
        check("without it " + what, shows(r, seen), f"{r}\n{seen[-40:]}")
        if both:
            check("without it " + both, holds(r), r)
        how.pop("settle", None)
        r, seen = strict(patched, *options, **how)
        check(f"with it the machine ends with {ends}", r.code == ends, r)
        check("with it not", not shows(r, seen), f"{r}\n{seen[-40:]}")
        if both:
            check("with it " + both, holds(r), r)


def main():
    if sys.argv[1:2] == ["--list"]:
        for name in sorted(boots.cases.keys() - THEIRS):
            print(name, *boots.cases[name][:2])
        return 0
    if sys.argv[1:2] == ["--kernels"]:
        wanted = {k for name, ks in boots.needs.items() for k in ks
                  if boots.cases.get(name, ("",))[0] in sys.argv[2:]}
        # Whole series and none of it first: if time runs out, that is what most tests need.
        for k in sorted(wanted, key=lambda k: ("--flavour" in k, "--without" in k, k)):
            print(k)
        return 0
    return boots.main()


if __name__ == "__main__":
    sys.exit(main())
