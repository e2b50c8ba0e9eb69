#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Virtual machine monitors on /dev/mshv inside a root: our client, and Debian's QEMU. Used as boots.py."""
import os, re, shutil, subprocess, sys

import boots
from boots import case, check, nestor, scratch
from roles import kernel_73

for name in list(boots.cases):    # those of boots.py and roles.py, not to be run twice
    del boots.cases[name]

TOP = os.path.dirname(boots.HERE)
CLIENT = os.path.abspath(os.environ.get("MSHV_CLIENT", TOP + "/build/tests/mshv/mshv-client"))
ROLES = ("root", "nested-root", "l1vh")
WRONG = r"BUG|Oops|WARNING|refcount|leak|mshv.*(fail|error)|blocked for more"


def skip(why):
    print(f"ok - nothing # SKIP {why}")
    boots.checks += 1


def root(role, *options, cpus=2, memory="2G", seconds=240, sh):
    """A command in a root of Linux 7; a list of options ends up before it."""
    return nestor("run", "--kernel", kernel_73(), "--role", role, "--cpus", str(cpus), "--memory",
                  memory, "--timeout", str(seconds), *options, "--", "sh", "-c", sh,
                  timeout=seconds + 40)


def needs_kernel(function):
    def run():
        kernel = kernel_73()
        if kernel and os.path.exists(kernel):
            function()
        else:
            skip("Linux 7 is not built: tools/linux build 7.3 --unpatched")
    return run


# --- what the parent asked of its hypervisor ---

def calls(path):
    """{call: {status: how often}} of a trace."""
    found = {}
    pattern = re.compile(r" hypercall\.return code=(\S+) .*status=(\S+)")
    with open(path) as lines:
        for m in filter(None, map(pattern.search, lines)):
            statuses = found.setdefault(m[1], {})
            statuses[m[2]] = statuses.get(m[2], 0) + 1
    return found


def check_calls(path, partitions, vps):
    """Everything that was made was taken away, and nothing was refused that a monitor relies on."""
    seen = calls(path)

    def good(call):
        return seen.get(call, {}).get("HV_STATUS_SUCCESS", 0)

    for call, want in (("HvCallCreatePartition", partitions), ("HvCallInitializePartition", partitions),
                       ("HvCallFinalizePartition", partitions), ("HvCallDeletePartition", partitions)):
        check(f"{call}: {want}", good(call) == want, seen.get(call))
    check(f"{vps} VPs and no more", good("HvCallCreateVp") >= vps, seen.get("HvCallCreateVp"))
    for call in ("HvCallSetVpRegisters", "HvCallGetVpRegisters", "HvCallSetPartitionProperty",
                 "HvCallMapVpStatePage", "HvCallUnmapVpStatePage"):
        refused = {s: n for s, n in seen.get(call, {}).items()
                   if s not in ("HV_STATUS_SUCCESS", "HV_STATUS_INSUFFICIENT_MEMORY")}
        check(f"{call} is never refused", good(call) and not refused, seen.get(call))
    check("as many state pages are given back as were mapped",
          good("HvCallMapVpStatePage") == good("HvCallUnmapVpStatePage"),
          [seen.get("HvCallMapVpStatePage"), seen.get("HvCallUnmapVpStatePage")])


def check_kernel(r):
    check("nothing went wrong in the root's kernel", not re.search(WRONG, r.section("dmesg")),
          r.section("dmesg"))


DMESG = f"echo; echo @dmesg; dmesg | grep -E '{WRONG}'; echo @end; sleep 1; "

# --- our client: each rule by itself ---


def client_cases():
    return subprocess.run([CLIENT, "--list"], capture_output=True, text=True).stdout.split()


def client_root(d):
    """A root file system with the client in it."""
    busybox = next(b for b in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(b))
    os.makedirs(d + "/bin")
    shutil.copy(busybox, d + "/bin/busybox")
    for applet in ("sh", "dmesg", "grep", "sleep", "mount"):
        os.symlink("busybox", f"{d}/bin/{applet}")
    shutil.copy(CLIENT, d + "/mshv-client")
    return d


def client_run(role, cpus, names=""):
    with scratch() as d:
        r = root(role, "--rootfs", client_root(d + "/root"), cpus=cpus, memory="1G", seconds=600,
                 sh=f"/mshv-client {names}; echo @status $?; " + DMESG)
    began, groups = None, {}
    for line in r.out.splitlines():
        m = re.match(r"# ([a-z0-9-]+)$", line)
        if m:
            began = m[1]
            groups[began] = []
        elif began:
            groups[began].append(line)
    for name in names.split() or client_cases():
        lines = groups.get(name, [])
        results = [l for l in lines if re.match(r"(not )?ok - ", l)]
        for line in results:
            check(f"{name}: {line.split(' - ', 1)[1]}", line.startswith("ok"),
                  [l for l in lines if l.startswith("#")])
        if not results:
            check(f"{name}: ran", False, r)
    check("the client came to its end", re.search(r"^@status \d", r.out, re.M), r)
    check("the root ends with 0", r.code == 0, r)
    check_kernel(r)


def client_case(role, cpus):
    @case(f"mshv-client-{role}-{cpus}vp", timeout=700)
    @needs_kernel
    def run():
        if not os.path.exists(CLIENT):
            return skip(f"{CLIENT} is not built")
        client_run(role, cpus)


for role in ROLES:
    client_case(role, 2)
client_case("root", 1)

# --- QEMU ---


def image():
    p = subprocess.run([TOP + "/tools/mshv-image", "--path"], capture_output=True, text=True)
    path = p.stdout.strip()
    return path if os.path.exists(path) else None


def needs_image(function):
    @needs_kernel
    def run():
        if image():
            function()
        else:
            skip("there is no image with QEMU: tools/mshv-image makes it")
    return run


# What a machine does: looks at itself, its disk, its network. Runs in a busybox.
MACHINE = r"""
echo "@machine $(uname -r)"; echo "cpus $(nproc)"; dmesg | grep -E 'Hypervisor detected|BUG|Oops|Call Trace'
cat /sys/devices/system/clocksource/clocksource0/current_clocksource
dd if=/dev/urandom of=/r bs=64k count=8 2>/dev/null
dd if=/r of=/dev/vda bs=64k seek=1 conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda of=/s bs=64k skip=1 count=8 2>/dev/null; cmp /r /s && echo "disk same"
ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ping -c 2 -W 5 10.0.2.2 | grep -E 'packets'
a=$(date +%s); sleep 2; b=$(date +%s); echo "slept $((b - a))"
i=0; while [ $i -lt $(nproc) ]; do taskset $(printf %x $((1 << i))) sh -c 'n=0; while [ $n -lt 2000 ]; do n=$((n + 1)); done'; i=$((i + 1)); done
grep -E 'LOC|RES' /proc/interrupts; echo "machine done"
"""

# What the root has to run machines with. ACCEL and CPU can be others, to try a script elsewhere.
TOOLS = r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ACCEL=${ACCEL:-mshv} CPU=${CPU:-host} SERIES=${SERIES:-6.12}
mount -t tmpfs tmpfs /tmp 2>/dev/null; cd /tmp
# A disk whose first bytes are what standard input says.
disk() { rm -f $1; truncate -s 1M $1; dd of=$1 conv=notrunc bs=64k 2>/dev/null; }
qemu() { timeout -k 5 ${LIMIT:-420} qemu-system-x86_64 -accel $ACCEL -cpu $CPU -nodefaults -display none -no-reboot "$@"; }
linux() { # DISK LOG [OPTION...]: the stock kernel by -kernel
	d=$1 l=$2; shift 2
	qemu -machine q35 -m 128 -kernel /vm/vmlinuz-$SERIES -initrd /vm/initrd-$SERIES -append "console=ttyS0 quiet panic=-1" \
		-serial file:$l -drive file=$d,format=raw,if=none,id=d -device virtio-blk-pci,drive=d \
		-netdev user,id=n -device virtio-net-pci,netdev=n,romfile= "$@"
}
# Until the log says it, a number of seconds at most, or the end of process $p.
until_says() { n=0; until grep -q "$2" $1 2>/dev/null; do sleep 0.2; n=$((n + 1)); [ $n -lt $(($3 * 5)) ] && kill -0 $p 2>/dev/null || return 1; done; }
"""


def qemu_root(role, sh, *options, **kw):
    machine = f"cat >/tmp/machine.sh <<'EOF'\n{MACHINE}EOF\n"
    return root(role, "--disk", image() + ",ro", "--append", "root=LABEL=nestor-mshv", *options,
                sh=TOOLS + machine + sh + DMESG, **kw)


def check_machine(text, cpus, what="the machine"):
    """What MACHINE says of itself."""
    check(f"{what} boots and comes to its end", "@machine " in text and "machine done" in text, text)
    check(f"{what} has {cpus} processors", f"cpus {cpus}\n" in text, text)
    check(f"{what} knows its hypervisor", re.search(r"Hypervisor detected: Microsoft Hyper-V", text), text)
    check(f"{what}'s disk keeps what it is given", "disk same" in text, text)
    check(f"{what}'s network answers", " 0% packet loss" in text, text)
    check(f"{what}'s clock goes", re.search(r"slept [23]\n", text), text)
    check(f"{what} has no trouble", not re.search(r"BUG|Oops|Call Trace", text), text)
    check(f"{what} powers off", "@status 0" in text, text)


def qemu_case(role, cpus):
    @case(f"mshv-qemu-{role}-{cpus}vp", timeout=700)
    @needs_image
    def run():
        with scratch() as d:
            r = qemu_root(role, f"disk a.img </tmp/machine.sh; linux a.img a.log -smp {cpus}; s=$?; "
                          "echo; echo @qemu; echo $s; echo @a; cat a.log; echo; ",
                          "--trace", d + "/t.txt", cpus=min(cpus + 1, 4), seconds=560)
            check("the root ends with 0", r.code == 0, r)
            check("QEMU ends with 0", r.section("qemu").strip() == "0", r)
            check_machine(between(r.out, "@a\n", "@dmesg"), cpus)
            check_kernel(r)
            check_calls(d + "/t.txt", 1, cpus)


def between(text, first, last):
    found = text.split(first, 1)[1:]
    return found[0].split(last, 1)[0] if found else ""


for role in ROLES:
    for n in (1, 4):
        qemu_case(role, n)


@case("mshv-qemu-three", timeout=700)
@needs_image
def three():
    """Three monitors at once, the kernels mixed, two processors each."""
    names = ("a", "b", "c")
    start = "".join(f"disk {n}.img </tmp/machine.sh; (SERIES={s} LIMIT=400 linux {n}.img {n}.log -smp 2; "
                    f"echo $? >{n}.status) & "
                    for n, s in zip(names, ("6.12", "6.1", "6.12")))
    show = "".join(f"echo; echo @{n}; cat {n}.log; echo; echo qemu $(cat {n}.status); " for n in names)
    with scratch() as d:
        r = qemu_root("nested-root", start + "wait; " + show, "--trace", d + "/t.txt", cpus=4,
                      memory="3G", seconds=600)
        check("the root ends with 0", r.code == 0, r)
        for n, after in zip(names, ("@b\n", "@c\n", "@dmesg")):
            text = between(r.out, f"@{n}\n", after)
            check(f"{n}: QEMU ends with 0", "qemu 0" in text, text)
            check_machine(text, 2, n)
        check_kernel(r)
        check_calls(d + "/t.txt", 3, 6)


# --- machines with firmware and a screen ---

# Each phase paints the screen and says so on the serial port: GRUB blue, then Linux red.
PAINT = r"""
echo "@machine $(uname -r)"
printf '\033[41m\033[2J\033[H' >/dev/tty0; echo "@painted"; sleep ${SLEEP:-20}
"""
DISK = "-machine q35 -drive file=boot.img,format=raw,if=none,id=b -device ide-hd,drive=b,bus=ide.0,bootindex=0"
FIRMWARE = {
    "bios": DISK + " -m 128",
    # As a ROM: QEMU 11.1 ends itself when a flash that is written to leaves the memory map, for it
    # unmaps it twice, which Linux refuses.
    "uefi": DISK + " -m 256 -bios /usr/share/ovmf/OVMF.fd",
}
SCREEN = r"""
trap "" PIPE
dump() { sync; echo "screendump /tmp/$1.ppm" >&3; n=0; until [ -s $1.ppm ] || [ $n -gt 50 ]; do sleep 0.2; n=$((n + 1)); done
	sleep 1; echo "@$1"; head -n 2 $1.ppm | tail -n 1
	tail -c +$(($(head -n 3 $1.ppm | wc -c) + 1)) $1.ppm | od -An -v -tx1 -w3 | sort | uniq -c | sort -rn | head -n 3; }
cp /vm/boot.img .; cat >paint.sh <<'EOF'
%s
EOF
disk a.img <paint.sh; mkfifo monitor
qemu %s -vga std -monitor stdio -serial file:a.log -drive file=a.img,format=raw,if=none,id=d \
	-device virtio-blk-pci,drive=d <monitor >monitor.log & p=$!; exec 3>monitor
until_says a.log '@grub' 240 && sleep 1; dump loader
until_says a.log '@painted' 200 && sleep 2; dump linux
until_says a.log '@status' 60; wait $p; s=$?; exec 3>&-; echo; echo @qemu; echo $s; echo @a; grep -v '^[[:space:]]*$' a.log; echo
"""


def colours(section):
    """[(share, rrggbb)] of a screen, the most frequent first, and its size."""
    rows = re.findall(r"^ *(\d+)  ?([0-9a-f ]{8})$", section, re.M)
    size = re.match(r"(\d+) (\d+)", section)
    pixels = int(size[1]) * int(size[2]) if size else 0
    return ([(int(n) / pixels, c.replace(" ", "")) for n, c in rows] if pixels else []), pixels


def alike(a, b):
    """Both firmwares have a red and a blue, not the same ones."""
    return all(abs(int(a[i:i + 2], 16) - int(b[i:i + 2], 16)) < 48 for i in (0, 2, 4))


def firmware_case(name):
    @case(f"mshv-qemu-{name}", timeout=700)
    @needs_image
    def run():
        r = qemu_root("root", "LIMIT=500; " + SCREEN % (PAINT, FIRMWARE[name]), cpus=2, seconds=600)
        check("the root ends with 0", r.code == 0, r)
        check("the loader is started by the firmware",
              f"@grub {'pc' if name == 'bios' else 'efi'}" in r.out, r)
        # GRUB's colours are for the BIOS; of UEFI's screen it keeps a line of text.
        for phase, colour, row, share in (
                ("loader", "0000aa", 0, 0.5) if name == "bios" else ("loader", "989898", 1, 0.0002),
                ("linux", "aa0000", 0, 0.9)):
            found, pixels = colours(r.section(phase))
            check(f"{phase}: there is a screen", pixels >= 640 * 400, r.section(phase))
            check(f"{phase}: it shows what was painted", len(found) > row and
                  found[row][0] > share and alike(found[row][1], colour), found)
        text = between(r.out, "@a\n", "@dmesg")
        check("Linux runs from the disk and ends", "@painted" in text and "@status 0" in text, r)
        check("QEMU ends with 0", r.section("qemu").strip() == "0", r)
        check_kernel(r)


for name in FIRMWARE:
    firmware_case(name)


# --- again and again ---

@case("mshv-qemu-fifty", suite="soak", timeout=7200)
@needs_image
def fifty():
    """A machine starts and stops 50 times: half power off, half are killed at work."""
    sh = """
printf 'echo here\\n' >short.sh; free() { sed -n 's/MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo; }
i=1; while [ $i -le 50 ]; do disk a.img <short.sh; rm -f a.log
if [ $((i % 2)) = 0 ]; then linux a.img a.log -smp 2; echo "@run $i $? $(grep -c '^here' a.log)"
else linux a.img a.log -smp 2 & p=$!; sleep $((1 + i % 7)); kill -9 $(busybox pidof qemu-system-x86_64); wait $p; echo "@run $i killed"; fi
[ $i != 10 ] || echo "@free $(free)"; i=$((i + 1)); done
echo "@free $(free)"; mount -t debugfs d /sys/kernel/debug; echo @left; ls /sys/kernel/debug/mshv/partition; echo @; """
    r = qemu_root("root", sh, cpus=2, seconds=7000)
    check("the root ends with 0", r.code == 0, r)
    runs = re.findall(r"^@run (\d+) (\d+) (\d+)$", r.out, re.M)
    check("25 machines end by themselves", [x[1:] for x in runs] == [("0", "1")] * 25, runs)
    check("25 are killed", len(re.findall(r"^@run \d+ killed$", r.out, re.M)) == 25, r)
    free = [int(x) for x in re.findall(r"^@free (\d+)$", r.out, re.M)]
    check("40 machines leave no memory behind", len(free) == 2 and free[1] > free[0] - 16384, free)
    check("no partition is left", r.section("left").split() in (["self"], [boots_self(r)]),
          r.section("left"))
    check_kernel(r)


def boots_self(r):
    """The root's own partition by number, where it knows it."""
    left = r.section("left").split()
    return left[0] if len(left) == 1 else ""


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        for name in sorted(boots.cases):
            print(name, *boots.cases[name][:2])
        sys.exit(0)
    sys.exit(boots.main())
