# SPDX-License-Identifier: MIT
"""Machines inside machines, for tools/bench: what a child partition costs.

The same QEMU, from the image of tools/mshv-image, runs the same guest in three places: under
-accel mshv in a nested root, under -accel kvm beside nestor, and under -accel kvm in a virtual machine
that has KVM. Times are between lines, by the clock of the machine all this runs in.
"""
import json, os, re, select, shutil, statistics, subprocess, tempfile, time

from archive import cpio

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUND_LIMIT = 900    # seconds for one machine
LOOPS, MEGABYTES, BYTES = 400000, 64, 3000

# Each machine's /dev/vda says this. A mark is a line of its own; bytes of ttyS1 go nowhere, each by some
# port accesses. It is still for a while around them, so that counts can be read. At @over it is killed: QEMU 11
# does not always notice that its guest has powered off (doc/testing.md).
WORK = f"""
loop() {{ n=0; while [ $n -lt {LOOPS} ]; do n=$((n + 1)); done; }}
work() {{ echo @work; loop; dd if=/dev/zero bs=64k count={MEGABYTES * 16} 2>/dev/null | md5sum >/dev/null; echo @worked; }}
"""
GUEST = "echo @user\n" + WORK + f"""work; stty -F /dev/ttyS1 raw; echo @still; sleep 3; echo @bytes
dd if=/dev/zero of=/dev/ttyS1 bs={BYTES} count=1 2>/dev/null; echo @written; sleep 3; echo @over; sleep 300
"""

MACHINE = os.environ.get("MACHINE", "pc")    # QEMU's default
# In the nested root, beside nestor and in the virtual machine alike; $ACCEL tells them apart. Every
# mark comes with the count of the root's interrupts from its hypervisor.
HOST = "MACHINE=%s" % MACHINE + r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs tmpfs /tmp; cd /tmp
cat >work <<'EOF'
%sEOF
truncate -s 1M a.img; dd if=work of=a.img conv=notrunc bs=64k 2>/dev/null
# Read once: what the disk costs is not what is measured.
qemu-system-x86_64 -M none -display none -nodefaults -S -daemonize -pidfile pid && kill $(cat pid)
cat /vm/*-6.12 /usr/share/seabios/bios-256k.bin /usr/share/qemu/*.bin >/dev/null; echo @start
qemu-system-x86_64 -accel $ACCEL -cpu host -machine $MACHINE -m 128 -nodefaults -display none -no-reboot -kernel /vm/vmlinuz-6.12 \
	-initrd /vm/initrd-6.12 -append "console=ttyS0 quiet panic=-1 nosoftlockup" -serial stdio -serial null \
	-drive file=a.img,format=raw,if=none,id=d -device virtio-blk-pci,drive=d </dev/null 2>err | while read -r l; do
	echo "$l"; case $l in @over*) kill $(pidof qemu-system-x86_64);; @still*|@written*) grep HYP: /proc/interrupts;; esac
done; cat err; echo @end
""" % GUEST

# The first program of the virtual machine that has KVM.
INSIDE = b"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev; $b mount -t ext4 -o ro /dev/vda /r; $b mount -t devtmpfs dev /r/dev
$b mount -t proc proc /r/proc; ACCEL=kvm $b chroot /r /bin/sh -c "$($b cat /script)" 2>&1
$b sleep 1; $b poweroff -f
"""
PLAIN = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin; export PATH=/bin; mount -t devtmpfs dev /dev
echo @user
""" + WORK.encode() + b"work\npoweroff -f\n"


class Stuck(Exception):
    seen = {}


def marks(argv, end, at=lambda mark: None, **kw):
    """{mark: when its line came}, and all that was said. at() is called with each mark as it comes."""
    seen, text, err = {}, "", tempfile.TemporaryFile("w+")
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, **kw)
    deadline, rest = time.monotonic() + ROUND_LIMIT, ""
    try:
        while end not in seen:
            if not select.select([p.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Stuck(f"nothing more after {', '.join(seen) or 'its start'}: {text[-1500:]}")
            data = os.read(p.stdout.fileno(), 4096)
            now = time.monotonic()
            if not data:
                code = p.wait()    # then all is in the file, whose position is the process's, too
                err.seek(0)
                raise Stuck(f"it ended with {code} after {', '.join(seen) or 'its start'}: {text[-1500:]}"
                            f"{err.read()[-1500:]}")
            chunk = data.decode(errors="replace").replace("\r", "")    # may be empty now
            text += chunk
            *lines, rest = (rest + chunk).split("\n")
            for mark in re.findall(r"@[a-z]+$", "\n".join(lines), re.M):
                seen[mark] = now
                at(mark)
    except Stuck as e:
        e.seen = seen
        raise
    finally:
        p.terminate()
        try:
            p.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
    return seen, text


def output(*argv):
    p = subprocess.run(argv, capture_output=True, text=True)
    return p.stdout.strip().splitlines()[-1] if p.returncode == 0 and p.stdout.strip() else ""


class Bench:
    def __init__(self, nestor, say):
        self.nestor, self.say = nestor, say
        self.image = output(TOP + "/tools/mshv-image", "--path")
        # Either will do; the demonstration builds the second.
        self.root_kernel = (output(TOP + "/tools/linux", "path", "7.3") or
                            output(TOP + "/tools/linux", "path", "7.3", "--unpatched")) + "/bzImage"
        self.inner_kernel = output(TOP + "/tools/incubator-kernel", "path") + "/vmlinux"
        self.tree = tempfile.mkdtemp(prefix="nestor-bench.", dir="/run")
        self.mounts = []

    def lacks(self):
        for path, how in ((self.image, "tools/mshv-image"), (self.root_kernel, "tools/linux build 7.3")):
            if not os.path.exists(path):
                return f"{path} is missing: {how}"
        return None

    def mount(self, *argv, to=""):
        p = subprocess.run(["mount", *argv, self.tree + to], capture_output=True, text=True)
        if p.returncode:
            raise Stuck(f"mount {' '.join(argv)}: {p.stderr.strip()}")
        self.mounts.append(self.tree + to)

    def open(self):
        """The image's tree, with this machine's /dev, and files of ours in its /tmp."""
        self.mount("-o", "loop,ro", self.image)
        self.loop = output("findmnt", "-n", "-o", "SOURCE", self.tree)
        self.mount("--rbind", "/dev", to="/dev")
        self.mount("-t", "proc", "proc", to="/proc")
        self.mount("-t", "tmpfs", "tmpfs", to="/mnt")
        with open(self.tree + "/bin/busybox", "rb") as f:
            busybox = f.read()
        for name, script, more in (("inside", INSIDE, [("script", 0o100644, HOST.encode())]), ("plain", PLAIN, [])):
            with open(f"{self.tree}/mnt/{name}", "wb") as f:
                f.write(cpio([(d, 0o40755, b"") for d in ("dev", "proc", "bin", "r")] +
                             [("bin/busybox", 0o100755, busybox), ("init", 0o100755, script)] + more))
        if os.path.exists(self.inner_kernel):
            shutil.copy(self.inner_kernel, self.tree + "/mnt/kernel")

    def close(self):
        for at in reversed(self.mounts):
            subprocess.run(["umount", "-R", "-l", at], capture_output=True)
        os.rmdir(self.tree)

    def times(self, seen):
        return {what: seen[last] - seen[first] for what, first, last in (
            ("boot", "@start", "@user"), ("work", "@work", "@worked"), ("bytes", "@bytes", "@written")) if last in seen}

    def child(self, *options):
        name, looks = f"bench-{os.getpid()}", []

        def look(mark):
            if mark in ("@still", "@written"):
                looks.append(json.loads(output(self.nestor, "stat", name, "--json") or "{}"))

        seen, text = marks([self.nestor, "run", "--name", name, "--role", "nested-root", "--kernel", self.root_kernel,
                            "--cpus", "2", "--memory", "1G", *options, "--disk", self.image + ",ro", "--append",
                            "root=LABEL=nestor-mshv", "--", "sh", "-c", "ACCEL=mshv\n" + HOST], "@end", look)
        got = self.times(seen)
        hyp = [sum(map(int, re.findall(r"\b\d+\b", l))) for l in re.findall(r"HYP:(.*)$", text, re.M)]
        if len(looks) == 2 and all(looks) and len(hyp) == 2:
            then, now = (s["children"] for s in looks)
            ports = now["intercepts_by_kind"].get("port I/O", 0) - then["intercepts_by_kind"].get("port I/O", 0)
            # Of the whole machine: the root's, and those of the child's that are no intercepts.
            exits = [sum(s["exits"].values()) for s in looks]
            got.update(intercepts=ports, hypercalls=(now["hypercalls"] - then["hypercalls"]) / ports,
                       interrupts=(hyp[1] - hyp[0]) / ports, whole=now["hypercalls_per_intercept"],
                       exits=(exits[1] - exits[0]) / ports)
        return got

    def dispatched(self):
        return self.child("--scheduler", "root")

    def beside(self):
        seen, _ = marks(["unshare", "-m", "chroot", self.tree, "sh", "-c", "ACCEL=kvm\n" + HOST], "@end")
        return self.times(seen)

    def deeper(self):
        if not os.path.exists(self.inner_kernel):
            raise Stuck("the kernel for the virtual machine is missing: tools/incubator-kernel")
        # The clock is this machine's, and need not be measured against a timer.
        khz = re.search(r"tsc_early_khz=\d+", open("/proc/cmdline").read())
        seen, _ = marks(["chroot", self.tree, "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host,migratable=off", "-machine", "q35",
                         "-smp", "1", "-m", "1G", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                         "-kernel", "/mnt/kernel", "-initrd", "/mnt/inside", "-serial", "stdio", "-append",
                         "console=ttyS0 quiet panic=-1 tsc=reliable nokaslr rdinit=/init " + (khz[0] if khz else ""),
                         "-drive", f"file={self.loop},format=raw,if=none,id=d,readonly=on", "-device",
                         "virtio-blk-pci,drive=d"], "@end")
        return self.times(seen)

    def plain(self):
        seen, _ = marks([self.nestor, "run", "--kernel", self.tree + "/vm/vmlinuz-6.12", "--initrd", self.tree + "/mnt/plain",
                         "--memory", "128M", "--append", "nosoftlockup"], "@worked")
        return {"work": seen["@worked"] - seen["@work"]}


def times_until(b, e):
    return b.times(getattr(e, "seen", {}))


def bench(rounds, nestor, row, say):
    b = Bench(nestor, say)
    lacking = b.lacks()
    if lacking:
        say("bench: children: not measured: " + lacking)
        return
    sides = {"child": [], "dispatched": [], "beside": [], "deeper": [], "plain": []}
    try:
        b.open()
        for i in range(rounds):
            for side, seen in sides.items():
                try:
                    if i == 0 or seen:    # what has not come up does not come up
                        seen.append(getattr(b, side)())
                        say(f"bench: children {i + 1}/{rounds}: {side}: " +
                            ", ".join(f"{k} {v:.2f}" for k, v in seen[-1].items()))
                except (Stuck, KeyError, ZeroDivisionError) as e:
                    part = times_until(b, e)    # some of the way is better than nothing
                    say(f"bench: children {i + 1}/{rounds}: {side}: {part or ''} {e}")
                    seen += [part] if part else []
    except Stuck as e:
        say(f"bench: children: not measured: {e}")
        return
    finally:
        b.close()

    def median(side, what):
        values = [s[what] for s in sides[side] if what in s]
        return statistics.median(values) if values else None

    def compare(what, unit, key, peer, note, side="child", **target):
        own, other = median(side, key), median(peer, key)
        if own is not None and other is not None:
            row(what, unit, own, other, note=note, **target)
        else:
            say(f"bench: children: {what}: no figure" + ("" if own is None else f" of {note}"))

    compare("child: from QEMU's start to init", "s", "boot", "beside", "the same QEMU on KVM", ratio_target=1.6)
    compare("  dispatched by the root", "s", "boot", "beside", "the same; --scheduler root", side="dispatched")
    compare("  the same", "s", "boot", "deeper", "QEMU on KVM in a virtual machine", ratio_target=0.5)
    compare("child: work without exits", "s", "work", "plain", "a plain guest; 0.97 of its speed", ratio_target=1 / 0.97)
    compare(f"child: {BYTES} bytes to a serial port", "s", "bytes", "beside", "the same QEMU on KVM")
    compare("  dispatched by the root", "s", "bytes", "beside", "the same; --scheduler root", side="dispatched")
    compare("  the same", "s", "bytes", "deeper", "QEMU on KVM in a virtual machine")
    for what, key, target in (("child: hypercalls per port access", "hypercalls", 3), ("  in all, start included", "whole", None),
                              ("child: root interrupts per port access", "interrupts", None),
                              ("  exits of root and child to nestor", "exits", None)):
        if median("child", key) is not None:
            row(what, "", median("child", key), target=target)
