#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Running instances, asked and changed from outside: ps, stop, stat, device, link, kvp, freeze, copy.

  control.py --list              names of the cases, one per line: NAME SUITE TIMEOUT
  control.py NAME                runs one; prints TAP, a line per check

NESTOR names the program (default: build/nestor beside this directory).
"""
import json, os, re, shutil, signal, subprocess, sys, threading, time

os.environ.pop("NESTOR_INCUBATOR_RETRY", None)    # it would hold the output back, which is read live
import boots
from boots import NESTOR, case, check, nestor, scratch

boots.cases.clear()
HERE = os.path.dirname(os.path.abspath(__file__))


class Instance:
    """nestor run in the background; what its console says is kept."""
    def __init__(self, *args, name=None, limit=660):
        self.name = name or f"test-{os.getpid()}"
        self.lines, self.err = [], []
        self.p = subprocess.Popen([NESTOR, "run", "--name", self.name, "--timeout", str(limit), *args],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for stream, into in ((self.p.stdout, self.lines), (self.p.stderr, self.err)):
            threading.Thread(target=self.read, args=(stream, into), daemon=True).start()

    @staticmethod
    def read(stream, into):
        for line in stream:
            into.append(line.decode(errors="replace").rstrip())

    def says(self, pattern, seconds=60, since=0):
        """Whether a line of the console matches, now or soon."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(re.search(pattern, l) for l in self.lines[since:]):
                return True
            if self.p.poll() is not None and time.monotonic() > end - seconds + 2:
                return False
            time.sleep(0.1)
        return False

    def status(self, seconds=60):
        try:
            code = self.p.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        time.sleep(0.2)    # the readers
        return code if code >= 0 else 128 - code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()

    def __str__(self):
        return "\n".join(self.lines[-30:] + self.err)


def answer(*args):
    """A command's JSON."""
    r = nestor(*args, "--json")
    try:
        return json.loads(r.out)
    except json.JSONDecodeError:
        return {"failed": str(r)}


def listed(name):
    return [o for o in answer("ps") if o["name"] == name]


# Says what network cards and disks there are, and whether eth1 has a carrier, at each change.
WATCH = """ip link set eth0 up 2>/dev/null
while :; do
  ip link set eth1 up 2>/dev/null
  now="devices $(echo $(ls /sys/class/net | grep eth) $(ls /sys/block | grep sd))"
  now="$now, carrier $(cat /sys/class/net/eth1/carrier 2>/dev/null)"
  [ "$now" = "$last" ] || echo "$now"
  last=$now
  sleep 0.2
done"""


@case("control-devices", timeout=600)
def devices():
    with scratch() as d, Instance("--kernel", "6.12", "--net", "user", "--", "sh", "-c", WATCH) as i:
        check("the guest is up", i.says(r"^devices eth0, ", 200), i)
        for _ in range(5):    # a busy one may not answer in time, and is listed without what it says
            o = listed(i.name)
            if o and "role" in o[0]:
                break
        check("nestor ps lists it", len(o) == 1 and o[0]["role"] == "guest" and o[0]["cpus"] == 1 and
              o[0]["memory_bytes"] == 512 << 20 and o[0]["state"] == "running" and
              o[0]["kernel"].startswith("6.12.") and o[0]["uptime_seconds"] > 0 and
              o[0]["where"] in ("kvm", "incubator"), o)
        check("with the process id that can be signalled", o and o[0]["pid"] == i.p.pid, o)
        check("and as a table", i.name in nestor("ps").out)
        r = nestor("run", "--name", i.name, "--", "true")
        check("its name is taken", r.code == 2 and "is running already" in r.err, r)

        one = answer("stat", i.name)
        rows = {r["name"]: r for r in one.get("routes", [])}
        check("stat counts hypercalls and registers", rows.get("HvCallPostMessage", {}).get("L1", 0) > 0 and
              rows.get("STIMER", {}).get("L1", 0) > 0, one)
        check("and knows the channels", any(c["device"] == "network" and c["open"] and c["packets"] > 0
                                            for c in one["channels"]), one)
        r = nestor("stat", i.name)
        check("stat as text", re.search(r"^  HvCallPostMessage +\d+ +(\.|\d+)$", r.out, re.M), r)

        r = nestor("device", "add", i.name, "net", "user,mac=02:00:00:00:00:77")
        check("a card is added", r.code == 0 and r.out == "net1\n", r)
        check("the guest sees it", i.says(r"^devices eth0 eth1, carrier 1"), i)
        two = answer("stat", i.name)    # an idle guest has no exits
        check("stat goes on counting", two["exits"]["hypercall"] > one["exits"]["hypercall"], (one, two))
        o = [x for x in answer("device", "list", i.name)["devices"] if x["name"] == "net1"]
        check("device list too", len(o) == 1 and o[0]["mac"] == "02:00:00:00:00:77" and o[0]["link"] == "up", o)
        at = len(i.lines)
        check("its cable is pulled", nestor("link", i.name, "1", "down").code == 0)
        check("the guest sees that", i.says(r"carrier 0", since=at), i)
        at = len(i.lines)
        check("and plugged again", nestor("link", i.name, "net1", "up").code == 0)
        check("the guest sees that, too", i.says(r"carrier 1", since=at), i)
        at = len(i.lines)
        check("the card is removed", nestor("device", "remove", i.name, "net1").code == 0)
        check("it vanishes in the guest", i.says(r"^devices eth0, carrier", since=at), i)
        r = nestor("device", "remove", i.name, "net1")
        check("once only", r.code == 1 and "there is no device net1" in r.err, r)

        disk = d + "/disk.raw"
        with open(disk, "wb") as f:
            f.truncate(64 << 20)
        at = len(i.lines)
        r = nestor("device", "add", i.name, "disk", disk)
        check("a disk is added", r.code == 0 and r.out == "disk0:0\n", r)
        check("the guest sees it", i.says(r"^devices eth0 sda, ", since=at), i)
        at = len(i.lines)
        check("the disk is removed", nestor("device", "remove", i.name, "disk0:0").code == 0)
        check("it vanishes in the guest", i.says(r"^devices eth0, carrier", since=at), i)
        r = nestor("device", "add", i.name, "disk", d + "/none")
        check("a disk that is not there is refused", r.code == 1 and "/none" in r.err, r)
        r = nestor("device", "add", i.name, "printer", "x")
        check("a kind of device there is not", r.code == 1 and "printer" in r.err, r)
        r = nestor("kvp", "list", i.name)
        check("nobody answers for key-value pairs", r.code == 1 and "hv_kvp_daemon" in r.err, r)

        o = answer("stop", i.name)
        check("it is stopped by the shutdown service", o.get("ended") and
              o.get("asked") == "shutdown service", o)
        check("status 0: the guest powered itself off", i.status() == 0 and
              any("the guest powered off" in l for l in i.err), i)
        check("it is listed no longer", not listed(i.name))
        r = nestor("stop", i.name)
        check("and cannot be stopped again", r.code == 2 and "no running instance" in r.err, r)


@case("control-stop", timeout=500)
def stop():
    # A shell on the console, which ignores SIGTERM: the common way to run a guest.
    with Instance("--kernel", "6.1") as i:
        i.p.stdin.write(b"echo up $((6*7))\n")
        i.p.stdin.flush()
        check("a shell is up", i.says("up 42", 200), i)
        r = nestor("stop", i.name)
        check("nestor stop ends it", r.code == 0 and i.status() == 0, f"{r}\n{i}")
    with Instance("--kernel", "6.1", "--", "sh", "-c", "echo up; exec sleep 1000") as i:
        check("a command is up", i.says("^up$", 200), i)
        o = answer("stop", i.name, "--force")
        check("nestor stop --force ends it at once", o.get("ended") and o.get("asked") == "kill", o)
        check("status 137", i.status() == 137, i)
    with Instance("--kernel", "6.1") as i:
        i.p.stdin.write(b"echo up $((6*7))\n")
        i.p.stdin.flush()
        check("a shell is up", i.says("up 42", 200), i)
        i.p.send_signal(signal.SIGTERM)
        check("one SIGTERM lets it power off", i.status(90) == 0 and
              any("the guest powered off" in l for l in i.err), i)


@case("control-nested", timeout=500)
def nested():
    with Instance("--kernel", "6.12", "--role", "nested-root", "--", "sh", "-c",
                  "echo up; exec sleep 1000") as i:
        check("a nested root is up", i.says("^up$", 300), i)
        o = answer("stat", i.name)
        rows = {r["name"]: r for r in o.get("routes", [])}
        check("its timer is served by L1", rows.get("STIMER", {}).get("L1", 0) > 0, o)
        check("its VMBus by L0", any(r["L0"] > 0 for n, r in rows.items() if n in ("EOM", "SIMP")), o)
        check("a deposit is accounted for", o.get("deposits", {}).get("pages", 0) >= 0 and
              "forward-post" in o.get("quirks", {}), o)
        r = nestor("stat", i.name)
        check("as the table with both", re.search(r"^  register +L0 +L1 .*refused$", r.out, re.M), r)
        check("stopped", nestor("stop", i.name, "--force").code == 0 and i.status() == 137, i)


def daemons_root(d):
    """A root with hyperv-daemons, the C library of this host, and busybox. None: not to be had."""
    p = subprocess.run([HERE + "/../tools/apt-fetch", "bookworm", "hyperv-daemons"], capture_output=True,
                       text=True)
    if p.returncode:
        return None
    root = d + "/root"
    subprocess.run(["dpkg-deb", "-x", p.stdout.split()[-1], root], check=True)
    for sub in ("bin", "etc", "lib64", "var/lib", "var/log", "tmp", "run", "dev", "proc", "sys"):
        os.makedirs(f"{root}/{sub}", exist_ok=True)
    busybox = next(b for b in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(b))
    shutil.copy(busybox, root + "/bin/busybox")
    for applet in ("sh", "cat", "ls", "sleep", "echo", "poweroff", "md5sum"):
        os.symlink("busybox", f"{root}/bin/{applet}")
    out = subprocess.run(["ldd", root + "/usr/sbin/hv_kvp_daemon"], capture_output=True, text=True).stdout
    for lib in re.findall(r"(/\S+)", out):
        os.makedirs(root + os.path.dirname(lib), exist_ok=True)
        shutil.copy(os.path.realpath(lib), root + lib)
    with open(root + "/etc/os-release", "w") as f:
        f.write('NAME="Test System"\nVERSION_ID="1"\n')
    return root


@case("control-services", timeout=600)
def services():
    script = ("export PATH=/bin:/usr/sbin; for d in kvp vss fcopy; do hv_${d}_daemon || echo no $d; done; "
              "echo up; while :; do sleep 0.3; now=$(md5sum /tmp/copied 2>/dev/null); "
              "[ \"$now\" = \"$last\" ] || echo \"$now\"; last=$now; done")
    with scratch() as d:
        root = daemons_root(d)
        if not root:
            print("ok - # SKIP hyperv-daemons cannot be downloaded")
            boots.checks += 1
            return
        with Instance("--kernel", "6.1", "--rootfs", root, "--", "sh", "-c", script) as i:
            check("the guest's daemons run", i.says("^up$", 200), i)
            end = time.monotonic() + 60
            while nestor("kvp", "list", i.name).code and time.monotonic() < end:
                time.sleep(1)
            o = answer("kvp", "list", i.name, "auto")
            facts = {x["key"]: x["value"] for x in o.get("items", [])}
            check("the guest tells about itself", facts.get("OSName") == "Test System" and
                  facts.get("OSBuildNumber", "").startswith("6.1."), o)
            r = nestor("kvp", "get", i.name, "auto", "OSName")
            check("one of these facts", r.code == 0 and r.out == "Test System\n", r)
            r = nestor("kvp", "set", i.name, "greeting", "grüß dich = hello")
            check("a pair is set", r.code == 0, r)
            r = nestor("kvp", "get", i.name, "greeting")
            check("and read back", r.out == "grüß dich = hello\n", r)
            r = nestor("kvp", "list", i.name)
            check("and listed with its pool", re.search("^external +greeting=grüß", r.out, re.M), r)
            r = nestor("kvp", "delete", i.name, "external", "greeting")
            check("and deleted", r.code == 0 and nestor("kvp", "get", i.name, "greeting").code == 1, r)
            r = nestor("kvp", "set", i.name, "auto", "a", "b")
            check("the guest's facts cannot be set", r.code == 1, r)

            marker = d + "/frozen"
            r = nestor("freeze", i.name, "--", "sh", "-c", f"echo on the host >{marker}; exit 7")
            check("a command runs on the host while the guest is frozen", r.code == 7 and
                  open(marker).read() == "on the host\n", r)
            r = nestor("freeze", i.name, "--", "true")
            check("and again: it was thawed", r.code == 0, r)
            p = subprocess.Popen([NESTOR, "freeze", i.name, "--hold"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
            check("a freeze is held", p.stdout.readline() == b"frozen\n")
            r = nestor("freeze", i.name, "--", "true")
            check("meanwhile no other can be", r.code == 125 and "frozen" in r.err, r)
            p.kill()
            p.wait()
            end, r = time.monotonic() + 30, None
            while time.monotonic() < end:
                r = nestor("freeze", i.name, "--", "true")
                if r.code == 0:
                    break
                time.sleep(0.5)
            check("its holder is killed: the guest is thawed", r.code == 0, r)

            data = os.urandom(100001)
            with open(d + "/file", "wb") as f:
                f.write(data)
            r = nestor("copy", i.name, d + "/file", "/tmp/copied")
            import hashlib
            check("a file is copied into the guest", r.code == 0 and
                  i.says(hashlib.md5(data).hexdigest()), f"{r}\n{i}")
            r = nestor("copy", i.name, d + "/file", "/tmp/copied")
            check("but not over another", r.code == 1 and "--overwrite" in r.err, r)
            r = nestor("copy", i.name, d + "/file", "/tmp/", "--overwrite")
            check("into a directory, under its own name", r.code == 0, r)
            r = nestor("stop", i.name)
            check("stopped", r.code == 0 and i.status() == 0, f"{r}\n{i}")


# What is wrong with a command line is told without a machine.
USAGE = (
    ("ps", "word"), ("stop",), ("stop", "a", "b"), ("stop", "nobody"), ("stat",), ("stat", "../x"),
    ("device",), ("device", "list"), ("device", "list", "nobody"), ("device", "add", "a"),
    ("device", "fly", "a", "b"), ("kvp", "get", "a"), ("kvp", "set", "a", "b"), ("link", "a", "0", "sideways"),
    ("link", "a", "x", "up"), ("freeze", "a"), ("freeze", "nobody", "--", "true"), ("copy", "a", "/etc/passwd"),
    ("copy", "a", "/etc/passwd", "relative"), ("copy", "a", "/nonexistent", "/tmp/x"),
    ("copy", "a", "/etc", "/tmp/x"), ("run", "--name", "a b", "--", "true"),
)


@case("control-usage", suite="source", timeout=200)
def usage():
    for args in USAGE:
        r = nestor(*args)
        check(" ".join(args), r.code == 2 and len((r.out + r.err).splitlines()) == 1 and
              "there is no command" not in r.err, r)


if __name__ == "__main__":
    sys.exit(boots.main())
