#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Storage and network beside QEMU's virtio: fio and iperf3 in the same guest, same kernel and backing.

  bench/io.py [--seconds N] [--rounds N] [--json FILE]

Both guests run in one machine (this one where KVM is usable, else one incubator), in turn: a Debian
root (tools/guest-image) on one disk, fio on another whose file is on a tmpfs, iperf3 to a server
of the host through libslirp. Reads ratios above 1 as: nestor is faster. Exits per I/O are nestor's
own count between two looks at the running guest.
"""
import argparse, json, os, re, statistics, subprocess, sys, tempfile

from archive import cpio

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("BUILD", HERE + "/build"))
NESTOR = BUILD + "/nestor"
CPUS, MEMORY, DISK_MIB = 2, 640, 256
# name | fio's arguments | unit: which field of fio's --minimal counts (read, write IOPS; KiB/s)
JOBS = (
    ("randread 4K QD1", "--rw=randread --bs=4k --iodepth=1", "iops"),
    ("randread 4K QD32", "--rw=randread --bs=4k --iodepth=32", "iops"),
    ("read 128K QD8", "--rw=read --bs=128k --iodepth=8", "kib"),
    ("write 128K QD8", "--rw=write --bs=128k --iodepth=8", "kib"),
)

GUEST = r"""
exec 2>&1
DISK=/dev/$(cd /sys/block; grep -lx $SECTORS [sv]d?/size | cut -d/ -f1)
for m in /sys/block/*/queue/scheduler; do echo none >$m; done
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up
say() { echo "$@"; sync; sleep 0.3; }
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
i=0; while [ $i -lt $ROUNDS ]; do
    echo "@@nestor"; : >out; overlay
    $NESTOR run --name bench$$ --kernel $KERNEL --cpus $CPUS --memory ${MEMORY}M --timeout 900 \
        --disk root.qcow2,format=qcow2 --disk data.img --net user \
        --append "root=LABEL=nestor-root rw" -- bash -c "PAUSE=3; $(cat $D/vars); $(cat $D/guest.sh)" \
        >out 2>err </dev/null & pid=$!
    while kill -0 $pid 2>/dev/null && ! grep -q '^@look' out; do sleep 0.2; done
    sleep 1; echo "@stat before"; $NESTOR stat bench$$ --json
    while kill -0 $pid 2>/dev/null && ! grep -q '^@looked' out; do sleep 0.2; done
    sleep 1; echo "@stat after"; $NESTOR stat bench$$ --json
    wait $pid; tr -d '\r' <out; cat err >&2
    echo "@@qemu"; overlay
    qemu-system-x86_64 -accel kvm -M q35 -cpu host -smp $CPUS -m $MEMORY -nodefaults -no-user-config \
        -display none -serial stdio -no-reboot -kernel $VMLINUZ -initrd $D/initrd-qemu \
        -append "console=ttyS0 quiet root=LABEL=nestor-root rw" \
        -object iothread,id=io0 \
        -blockdev qcow2,node-name=root,file.driver=file,file.filename=root.qcow2 -device virtio-blk-pci,drive=root \
        -blockdev raw,node-name=data,cache.direct=on,discard=unmap,file.driver=file,file.filename=data.img,file.aio=io_uring,file.cache.direct=on \
        -device virtio-blk-pci,drive=data,iothread=io0 \
        -netdev user,id=n0 -device virtio-net-pci,netdev=n0 </dev/null | tr -d '\r'
    i=$((i + 1))
done
kill $server
"""


def virtio_initrd(path, kernel, argv):
    """Our init again, so that both guests start the same way."""
    deps = dict(l.rstrip("\n").split(":", 1) for l in open(kernel + "/modules/modules.dep"))
    order = []
    for want in ("virtio_pci", "virtio_blk", "virtio_net", "ext4"):
        for p in deps:
            if os.path.basename(p).split(".")[0].replace("-", "_") == want:
                order += [x for x in [*reversed(deps[p].split()), p] if x not in order]
    read = lambda p: open(p, "rb").read()
    names = ["nestor/" + os.path.basename(p) for p in order]
    with open(path, "wb") as f:
        f.write(cpio([(d, 0o40755, b"") for d in ("dev", "proc", "sys", "run", "nestor")] +
                     [("init", 0o100755, read(BUILD + "/payload/guest-init")),
                      ("nestor/modules", 0o100644, b"".join(n.encode() + b"\0" for n in names)),
                      ("nestor/cmd", 0o100644, b"".join(a.encode() + b"\0" for a in argv))] +
                     [(n, 0o100644, read(f"{kernel}/modules/{p}")) for n, p in zip(names, order)]))


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
    looks = [json.loads(x) for x in re.findall(r"^@stat \w+\n(\{.*\})$", text, re.M)]
    if len(looks) == 2:
        a, b = looks
        got["exits"] = {k: b["exits"].get(k, 0) - a["exits"].get(k, 0) for k in b["exits"]}
        disk = lambda o: [c for c in o["channels"] if c["device"] == "storvsp" and c["open"]]
        got["completions"] = sum(c["completions"] for c in disk(b)) - sum(c["completions"] for c in disk(a))
        got["signals"] = sum(c["signals_in"] for c in disk(b)) - sum(c["signals_in"] for c in disk(a))
        got["interrupts"] = sum(c["signals_out"] for c in disk(b)) - sum(c["signals_out"] for c in disk(a))
    return got


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seconds", type=int, default=5)
    ap.add_argument("--rounds", type=int, default=1)
    ap.add_argument("--json")
    ap.add_argument("--log", help="keep what the guests said")
    a = ap.parse_args()
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
        virtio_initrd(d + "/initrd-qemu", kernel,
                      ["/bin/bash", "-c", "PAUSE=0\n" + variables + GUEST])
        env = {"D": d, "NESTOR": NESTOR, "IMAGE": image, "KERNEL": "6.12", "VMLINUZ": kernel + "/vmlinuz",
               "CPUS": CPUS, "MEMORY": MEMORY, "DISK_MIB": DISK_MIB, "ROUNDS": a.rounds, "PORT": port}
        with open(d + "/world.sh", "w") as f:
            f.write("".join(f"{k}='{v}'\n" for k, v in env.items()) + WORLD)
        here = '"uses": "kvm"' in output(NESTOR, "doctor", "--json")
        p = subprocess.run(([] if here else [NESTOR, "incubator", "--memory", "5G", "--"]) + ["sh", d + "/world.sh"],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    text = p.stdout.replace("\r", "")
    if a.log:
        open(a.log, "w").write(text + p.stderr)
    sides = {"nestor": [], "qemu": []}
    for side, part in re.findall(r"^@@(\w+)\n(.*?)(?=^@@|\Z)", text, re.M | re.S):
        sides[side].append(figures(part))
    rows = []
    for name, unit in [(n, {"iops": "IOPS", "kib": "KiB/s"}[u]) for n, _, u in JOBS] + \
            [("TCP up", "Mbit/s"), ("TCP down", "Mbit/s")]:
        v = {s: [r[name] for r in rs if name in r] for s, rs in sides.items()}
        if not v["nestor"] or not v["qemu"]:
            print(f"io: {name}: no figure: {v}", file=sys.stderr)
            continue
        own, peer = statistics.median(v["nestor"]), statistics.median(v["qemu"])
        rows.append({"what": name, "unit": unit, "own": own, "peer": peer,
                     "ratio": own / peer if peer else None, "target": 1.0})
        print(f"{name:20} {own:12.1f} {peer:12.1f} {unit:8} ratio {own / max(peer, 1e-9):.2f}")
    for r in sides["nestor"]:
        if r.get("completions"):
            n = r["completions"]
            total = sum(r["exits"].values())
            calls = r["exits"].get("hypercall", 0)
            rows.append({"what": "exits per I/O QD32", "unit": "", "own": total / n, "target": 0.5,
                         "hypercalls_per_io": calls / n, "exits": r["exits"], "ios": n})
            print(f"exits per I/O at QD32: {total / n:.3f} of all kinds, {calls / n:.3f} hypercalls, "
                  f"{r['signals'] / n:.3f} signals to us, {r['interrupts'] / n:.3f} interrupts to the guest; {n} I/O; "
                  + ", ".join(f"{k} {v}" for k, v in r["exits"].items() if v))
    if a.json:
        json.dump(rows, open(a.json, "w"), indent=1)
    if len(rows) < len(JOBS):
        print(text[-3000:], p.stderr[-3000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
