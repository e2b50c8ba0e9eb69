#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Storage and network: fio and iperf3 in the same Debian guest, same kernel, same backing, three ways.

  bench/io.py [--cpus N] [--seconds N] [--rounds N] [--json FILE] [--log FILE] [SIDE...]

SIDE: guest (nestor, VMBus), qemu (QEMU on KVM, virtio), nested (nestor, role nested-root, VMBus of
L0); all three unless named. And scsi: as qemu, but with its disk behind virtio-scsi, where Linux has
its SCSI layer to go through as on VMBus. They run in one machine (this one where KVM is usable, else one
incubator), in turn: a Debian root (tools/guest-image) on one disk, fio on another whose file is on
a tmpfs, iperf3 to a server of the host through libslirp. A ratio above 1: the first named is
faster. Exits per I/O are nestor's own count between two looks at the running guest. A round takes
a minute or so for each side, and several in the incubator. NESTOR_INCUBATOR=small takes the small
kernel instead of Debian's there.
"""
import argparse, json, lzma, os, re, statistics, subprocess, sys, tempfile

from archive import cpio

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("BUILD", HERE + "/build"))
NESTOR = BUILD + "/nestor"
MEMORY, DISK_MIB = 640, 256
SIDES = ("guest", "qemu", "nested", "scsi")
# name | fio's arguments | unit: which field of fio's --minimal counts (read, write IOPS; KiB/s)
JOBS = (
    ("randread 4K QD1", "--rw=randread --bs=4k --iodepth=1", "iops"),
    ("randread 4K QD32", "--rw=randread --bs=4k --iodepth=32", "iops"),
    ("read 128K QD8", "--rw=read --bs=128k --iodepth=8", "kib"),
    ("write 128K QD8", "--rw=write --bs=128k --iodepth=8", "kib"),
)

GUEST = r"""
exec 2>&1
disk() { (cd /sys/block; grep -lx $SECTORS [sv]d?/size 2>/dev/null | cut -d/ -f1); }
n=0; while [ -z "$(disk)" ] || [ ! -e /sys/class/net/eth0 ]; do sleep 0.2; n=$((n + 1)); [ $n -lt 300 ] || exit 1; done
DISK=/dev/$(disk)
for m in /sys/block/*/queue/scheduler; do echo none >$m; done
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up
job() { fio --name=j --filename=$DISK --direct=1 --ioengine=libaio --runtime=$SECS --time_based --minimal \
    --ramp_time=1 "$@" 2>&1 | grep '^3;'; }
job --rw=write --bs=1m --iodepth=4 >/dev/null
n=0
while read name; do
    read args
    echo "@job $n"; job $args </dev/null; n=$((n + 1))
done <<END
$JOBS
END
# A count of I/O that is known, between two looks of the host.
echo "@look"; sleep $PAUSE
fio --name=j --filename=$DISK --direct=1 --ioengine=libaio --rw=randread --bs=4k --iodepth=32 \
    --number_ios=$NUMBER --minimal </dev/null >/dev/null
echo "@looked"; sleep $PAUSE
echo "@up"; timeout 60 iperf3 -c 10.0.2.2 -p $PORT -t $SECS -f m </dev/null
echo "@down"; timeout 60 iperf3 -c 10.0.2.2 -p $PORT -t $SECS -f m -R </dev/null
echo "@end"
"""

WORLD = r"""
set -u; PATH=$PATH:/usr/sbin:/sbin
S=$(mktemp -d /dev/shm/nestor-bench.XXXXXX); trap 'rm -rf $S' EXIT; cd $S; export TMPDIR=$S
ip link set lo up 2>/dev/null
truncate -s ${DISK_MIB}M data.img
overlay() { rm -f root.qcow2; qemu-img create -q -f qcow2 -b $IMAGE -F raw root.qcow2; }
iperf3 -s -p $PORT >server.log 2>&1 & server=$!
nestor() { # SIDE ROLE
    echo "@@$1"; : >out; overlay
    $NESTOR run --name bench$$ --role $2 --kernel $KERNEL --cpus $CPUS --memory ${MEMORY}M --timeout 900 \
        --disk root.qcow2,format=qcow2 --disk data.img --net user \
        --append "root=LABEL=nestor-root rw" -- bash -c "PAUSE=6; $(cat $D/vars); $(cat $D/guest.sh)" \
        >out 2>err </dev/null & pid=$!
    for what in look looked; do
        while kill -0 $pid 2>/dev/null && ! tr -d '\r' <out | grep -qx "@$what"; do sleep 0.2; done
        sleep 1; echo "@stat $what"; $NESTOR stat bench$$ --json | tr -d '\n'; echo
    done
    wait $pid; cat out; cat err >&2
}
qemu() { # SIDE DEVICE...
    echo "@@$1"; shift; overlay
    timeout 900 qemu-system-x86_64 -accel kvm -M q35 -cpu host -smp $CPUS -m $MEMORY -nodefaults -no-user-config \
        -display none -serial stdio -no-reboot -kernel $VMLINUZ -initrd $D/initrd-qemu \
        -append "console=ttyS0 quiet panic=-1" \
        -object iothread,id=io0 \
        -blockdev qcow2,node-name=root,file.driver=file,file.filename=root.qcow2 -device virtio-blk-pci,drive=root \
        -blockdev raw,node-name=data,cache.direct=on,discard=unmap,file.driver=file,file.filename=data.img,file.aio=io_uring,file.cache.direct=on \
        "$@" \
        -netdev user,id=n0 -device virtio-net-pci,netdev=n0 </dev/null
}
i=0; while [ $i -lt $ROUNDS ]; do
    for side in $SIDES; do
        case $side in guest) nestor guest guest ;; nested) nestor nested nested-root ;;
            qemu) qemu qemu -device virtio-blk-pci,drive=data,iothread=io0 ;;
            scsi) qemu scsi -device virtio-scsi-pci,id=s0,iothread=io0 -device scsi-hd,drive=data,bus=s0.0 ;; esac
    done
    i=$((i + 1))
done
kill $server
"""


# Not our own init: it opens ports for itself, which an emulated KVM forbids it beside QEMU.
INIT = """#!/bin/busybox sh
busybox mount -t proc none /proc; busybox mount -t sysfs none /sys; busybox mount -t devtmpfs none /dev
for m in $(busybox cat /order); do busybox insmod /$m; done
n=0; while [ ! -b /dev/vda ] && [ $n -lt 300 ]; do busybox sleep 0.1; n=$((n + 1)); done
busybox mount -t ext4 -o rw /dev/vda /root; busybox mount -t tmpfs none /run
busybox mkdir -p /dev/shm; busybox mount -t tmpfs none /dev/shm
for d in dev proc sys run; do busybox mount -o move /$d /root/$d; done
script=$(busybox cat /script)
exec busybox switch_root /root /bin/bash -c "$script" </dev/console >/dev/console 2>&1
"""


def virtio_initrd(path, kernel, script):
    deps = dict(l.rstrip("\n").split(":", 1) for l in open(kernel + "/modules/modules.dep"))
    order = []
    for want in ("virtio_blk", "virtio_net", "virtio_scsi", "sd_mod"):
        for p in deps:
            if os.path.basename(p).split(".")[0].replace("-", "_") == want:
                order += [x for x in [*reversed(deps[p].split()), p] if x not in order]

    def module(p):
        with open(f"{kernel}/modules/{p}", "rb") as f:
            data = f.read()
        return lzma.decompress(data) if p.endswith(".xz") else data

    names = [os.path.basename(p).removesuffix(".xz") for p in order]
    with open(path, "wb") as f, open("/bin/busybox", "rb") as busybox:
        f.write(cpio([(d, 0o40755, b"") for d in ("bin", "dev", "proc", "sys", "run", "root")] +
                     [("bin/busybox", 0o100755, busybox.read()), ("init", 0o100755, INIT.encode()),
                      ("order", 0o100644, "\n".join(names).encode()), ("script", 0o100644, script.encode())] +
                     [(n, 0o100644, module(p)) for n, p in zip(names, order)]))


def output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def figures(text):
    """What one guest said: name -> value."""
    got = {}
    for n, (name, _, unit) in enumerate(JOBS):
        m = re.search(rf"^@job {n}\n(3;.*)$", text, re.M)
        f = m.group(1).split(";") if m else []
        if len(f) > 48:    # terse version 3: read KiB/s 6, read IOPS 7, write KiB/s 47, write IOPS 48
            got[name] = (float(f[7]) + float(f[48]) if unit == "iops" else float(f[6]) + float(f[47]))
    for way in ("up", "down"):
        m = re.search(rf"^@{way}\n.*?([\d.]+) Mbits/sec[^\n]*receiver", text, re.M | re.S)
        if m:
            got[f"TCP {way}"] = float(m.group(1))
    looks = []
    for x in re.findall(r"^@stat \w+\n(\{.*\})$", text, re.M):
        looks.append(json.loads(x))
    if len(looks) == 2:
        a, b = looks
        got["exits"] = {k: b["exits"].get(k, 0) - a["exits"].get(k, 0) for k in b["exits"]}
        disk = lambda o: [c for c in o["channels"] if c["device"] == "storvsp" and c["open"]]
        got["completions"] = sum(c["completions"] for c in disk(b)) - sum(c["completions"] for c in disk(a))
        got["signals"] = sum(c["signals_in"] for c in disk(b)) - sum(c["signals_in"] for c in disk(a))
        got["interrupts"] = sum(c["signals_out"] for c in disk(b)) - sum(c["signals_out"] for c in disk(a))
    return got


def compare(rows, sides, own, peer, target):
    for name, unit in [(n, {"iops": "IOPS", "kib": "KiB/s"}[u]) for n, _, u in JOBS] + \
            [("TCP up", "Mbit/s"), ("TCP down", "Mbit/s")]:
        v = {s: [r[name] for r in sides[s] if name in r] for s in (own, peer)}
        if not v[own] or not v[peer]:
            print(f"io: {name}: no figure: {v}", file=sys.stderr)
            continue
        x, y = statistics.median(v[own]), statistics.median(v[peer])
        rows.append({"what": name, "unit": unit, "side": own, "beside": peer, "own": x, "peer": y,
                     "ratio": x / y if y else None, "at_least": target})
        print(f"{name:18} {own:>7} {x:12.1f} {peer:>7} {y:12.1f} {unit:7} ratio {x / max(y, 1e-9):.2f}, "
              f"target >= {target:g}", flush=True)


def exits(rows, side, r):
    n = r.get("completions")
    if not n:
        return
    total = sum(r["exits"].values())
    calls = r["exits"].get("hypercall", 0)
    rows.append({"what": "exits per I/O, 4K QD32", "unit": "", "side": side, "own": total / n, "at_most": 0.5,
                 "hypercalls_per_io": calls / n, "signals_per_io": r["signals"] / n,
                 "interrupts_per_io": r["interrupts"] / n, "exits": r["exits"], "ios": n})
    print(f"exits per I/O, 4K QD32, {side}: {total / n:.3f}, target <= 0.5; {calls / n:.3f} hypercalls, "
          f"{r['signals'] / n:.3f} signals to us, {r['interrupts'] / n:.3f} interrupts to the guest; {n} I/O; "
          + ", ".join(f"{k} {v}" for k, v in r["exits"].items() if v))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cpus", type=int, default=2, help="processors of each guest")
    ap.add_argument("--seconds", type=int, default=5)
    ap.add_argument("--rounds", type=int, default=1)
    ap.add_argument("--json")
    ap.add_argument("--log", help="keep what the guests said")
    ap.add_argument("sides", nargs="*", metavar="SIDE")
    a = ap.parse_args()
    a.sides = a.sides or list(SIDES[:3])
    if set(a.sides) - set(SIDES):
        ap.error("known are: " + " ".join(SIDES))
    image = output(HERE + "/tools/guest-image", "--path")
    if not os.path.exists(image):
        sys.exit("io.py: there is no Debian root; make it with tools/guest-image")
    kernel = output(HERE + "/tools/kernels", "path", "6.12")
    port, number = 20000 + os.getpid() % 20000, 4000 * a.seconds
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d:
        jobs = "\n".join(f"{name}\n{args}" for name, args, _ in JOBS)
        variables = f"SECTORS={DISK_MIB * 2048} SECS={a.seconds} PORT={port} NUMBER={number}\nJOBS='{jobs}'\n"
        open(d + "/vars", "w").write(variables)
        open(d + "/guest.sh", "w").write(GUEST)
        virtio_initrd(d + "/initrd-qemu", kernel, "export PATH=/usr/sbin:/usr/bin:/sbin:/bin; PAUSE=0\n" + variables +
                      GUEST + "\nsync; echo o >/proc/sysrq-trigger; sleep 1000\n")
        env = {"D": d, "NESTOR": NESTOR, "IMAGE": image, "KERNEL": "6.12", "VMLINUZ": kernel + "/vmlinuz",
               "CPUS": a.cpus, "MEMORY": MEMORY, "DISK_MIB": DISK_MIB, "ROUNDS": a.rounds, "PORT": port,
               "SIDES": " ".join(a.sides)}
        with open(d + "/world.sh", "w") as f:
            f.write("".join(f"{k}='{v}'\n" for k, v in env.items()) + WORLD)
        here = '"uses": "kvm"' in output(NESTOR, "doctor", "--json")
        # The stock kernel, as for the other measurements.
        # What they say can be followed in the log while they run.
        with open(a.log or d + "/said", "w+", errors="replace") as said, open(d + "/err", "w+", errors="replace") as err:
            subprocess.run(([] if here else [NESTOR, "incubator", "--cpus", "2", "--"]) + ["sh", d + "/world.sh"],
                           stdin=subprocess.DEVNULL, stdout=said, stderr=err,
                           env={"NESTOR_INCUBATOR": "stock", **os.environ})
            said.seek(0)
            err.seek(0)
            text, errors = said.read().replace("\r", ""), err.read()
    sides = {s: [] for s in SIDES}
    for side, part in re.findall(r"^@@(\w+)\n(.*?)(?=^@@|\Z)", text, re.M | re.S):
        sides[side].append(figures(part))
    rows = []
    for own, peer, target in (("guest", "qemu", 1.0), ("guest", "scsi", 1.0), ("nested", "guest", 0.97)):
        if {own, peer} <= set(a.sides):
            compare(rows, sides, own, peer, target)
    for side in ("guest", "nested"):
        for r in sides[side]:
            exits(rows, side, r)
    if a.json:
        json.dump(rows, open(a.json, "w"), indent=1)
    if not all(len(r) > len(JOBS) + 1 for s in a.sides for r in sides[s] or [{}]):
        print(text[-3000:], errors[-3000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
