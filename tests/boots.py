#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whole machines: stock kernels started by the nestor command, judged by console, status and trace.

  boots.py --list                names of the cases, one per line: NAME SUITE TIMEOUT
  boots.py NAME                  runs one; prints TAP, a line per check
  boots.py --update-golden       writes tests/golden/ anew from what the kernels do now

NESTOR names the program (default: build/nestor beside this directory).
"""
import contextlib, json, os, re, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
NESTOR = os.path.abspath(os.environ.get("NESTOR", HERE + "/../build/nestor"))
TOP = os.path.dirname(HERE)
CLIENT = os.path.abspath(os.environ.get("MSHV_CLIENT", TOP + "/build/tests/mshv/mshv-client"))
GOLDEN = HERE + "/golden"
KERNELS = ("6.1", "6.12")
cases = {}
needs = {}    # by name of a case: the kernels it needs, as arguments of tools/linux
checks = failures = 0


def case(name, suite="boot", timeout=300, kernels=()):
    """A test. With kernels it is skipped when one is not built, else called with their files."""
    def add(function):
        needs[name] = kernels
        cases[name] = (suite, timeout,
                       (lambda: with_kernels(function, kernels)) if kernels else function)
        return function
    return add


def with_kernels(function, kernels):
    images = []
    for k in kernels:
        p = subprocess.run([TOP + "/tools/linux", "path", *k.split()], capture_output=True,
                           text=True)
        images += [line + "/bzImage" for line in p.stdout.splitlines()]
        if p.returncode != 0:
            return skip(f"{(p.stderr.strip().splitlines() or ['no kernel'])[-1]} {k}")
    function(*images)


def check(what, good, seen=None):
    """One named line per assertion; the rest of the case still runs."""
    global checks, failures
    checks += 1
    print(("ok - " if good else "not ok - ") + what, flush=True)
    if not good:
        failures += 1
        if isinstance(seen, Run):
            print(f"#   all of it: {seen.keep()}")
        if seen is not None:
            for line in str(seen).splitlines()[-40:]:
                print("#   " + line)


def skip(why):
    global checks
    checks += 1
    print(f"ok - nothing # SKIP {why}", flush=True)


kept = []    # the runs of which a check failed


class Run:
    """What a nestor command left behind."""
    def __init__(self, code, out, err, seconds):
        self.code, self.seconds = code, seconds
        self.out = out.decode(errors="replace").replace("\r", "")
        self.err = err.decode(errors="replace").replace("\r", "")

    def keep(self):
        """A file with all that was said: a log of tests only has the end."""
        path = os.path.join(os.path.dirname(os.path.abspath(NESTOR)), f"failed-{'-'.join(sys.argv[1:])}.log")
        if self not in kept:
            with open(path, "a" if kept else "w") as f:
                f.write(f"{self.out}\n--- standard error ---\n{self.err}\n")
            kept.append(self)
        return path

    def __str__(self):
        return f"status {self.code} after {self.seconds:.1f} s\n{self.out}\n{self.err}"

    def summary(self):
        lines = [l for l in self.err.splitlines() if re.match("nestor: [a-z0-9-]+, ", l)]
        return lines[-1] if lines else ""

    def section(self, name):
        """Console text between the lines @name and the next @."""
        m = re.search(rf"^@{name}\n(.*?)^@", self.out, re.S | re.M)
        return m.group(1) if m else ""


def nestor(*args, stdin=b"", timeout=280):
    start = time.monotonic()
    p = subprocess.run([NESTOR, *args], input=stdin, capture_output=True, timeout=timeout)
    for line in p.stderr.splitlines():
        if line.startswith(b"nestor: the incubator hung"):
            print("# " + line.decode(), flush=True)
    return Run(p.returncode, p.stdout, p.stderr, time.monotonic() - start)


def boot(kernel, *options, sh=None, **kw):
    command = ("--", "sh", "-c", sh) if sh is not None else ()
    return nestor("run", "--kernel", kernel, "--timeout", "240", *options, *command, **kw)


@contextlib.contextmanager
def scratch():
    # In /var/tmp: the incubator sees the host's files there, and its /tmp may be its own.
    d = tempfile.mkdtemp(prefix="nestor-test.", dir="/var/tmp")
    try:
        yield d
    finally:
        shutil.rmtree(d, ignore_errors=True)


def output(*command):
    p = subprocess.run(command, capture_output=True, text=True)
    return p.stdout.strip() if p.returncode == 0 else ""


def uses_kvm():
    """Of this machine, not of an incubator's."""
    return '"uses": "kvm"' in output(NESTOR, "doctor", "--json")


def world(d, script, timeout=500):
    """A shell script where machines can be run: here, or in the incubator. The directory $S is
    gone afterwards and can do what a plain file system can: punch holes, O_DIRECT."""
    text = ("set -u; PATH=$PATH:/usr/sbin:/sbin; D=%s; N=%s\n"
            "S=$(mktemp -d /dev/shm/nestor-test.XXXXXX); trap 'rm -rf $S' EXIT; cd $S; export TMPDIR=$S\n" %
            (d, NESTOR)) + script
    with open(d + "/world.sh", "w") as f:
        f.write(text)
    if uses_kvm():
        start = time.monotonic()
        p = subprocess.run(["sh", d + "/world.sh"], capture_output=True, timeout=timeout)
        return Run(p.returncode, p.stdout, p.stderr, time.monotonic() - start)
    return nestor("incubator", "--", "sh", d + "/world.sh", timeout=timeout)


def busybox_root(d, *applets, files=()):
    """A root file system with these applets and files in it."""
    busybox = next(b for b in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(b))
    os.makedirs(d + "/bin")
    shutil.copy(busybox, d + "/bin/busybox")
    for applet in applets:
        os.symlink("busybox", f"{d}/bin/{applet}")
    for f in files:
        shutil.copy(f, d)
    return d


def client_root(d):
    """One with the program of tests/mshv/."""
    return busybox_root(d, "sh", "dmesg", "grep", "sleep", "mount", files=(CLIENT,))


def debian():
    path = output(TOP + "/tools/guest-image", "--path")
    return path if os.path.exists(path) else None


def needs_debian(function):
    def run(*args):
        if debian():
            function(debian(), *args)
        else:
            skip("there is no Debian root; tools/guest-image makes it")
    return run


def counter(interrupts, row):
    """Sum over processors of one row of /proc/interrupts."""
    m = re.search(rf"^ *{row}:((?: +\d+)+)", interrupts, re.M)
    return [int(n) for n in m.group(1).split()] if m else []


# --- boots of stock kernels ---

# A timer on each processor, whether or not the scheduler had work for it.
SLEEPS = ("i=0; while [ $i -lt $(nproc) ]; do taskset $(printf %x $((1 << i))) sleep 0.02; "
          "i=$((i + 1)); done; ")

LOOK = (SLEEPS + "echo @dmesg; dmesg | grep -E 'Hyper|clocksource|smp:|Brought'; "
        "echo @clocksource; cat /sys/devices/system/clocksource/clocksource0/current_clocksource; "
        "echo @nproc; nproc; echo @interrupts; grep -E 'HVS|LOC' /proc/interrupts; echo @end; ")


def check_guest(r, cpus):
    dmesg, interrupts = r.section("dmesg"), r.out
    check("detects Microsoft Hyper-V", "Hypervisor detected: Microsoft Hyper-V" in dmesg, r)
    check("clocksource is the reference TSC page",
          r.section("clocksource").strip() == "hyperv_clocksource_tsc_page", r)
    check(f"{cpus} processors are up", r.section("nproc").strip() == str(cpus), r)
    hvs, loc = counter(interrupts, "HVS"), counter(interrupts, "LOC")
    check("each processor takes synthetic timer interrupts",
          len(hvs) == cpus and all(n > 0 for n in hvs), r)
    check("and none from the local APIC timer", not any(loc), r)


def check_trace_text(path, cpus):
    text = open(path).read()
    for vp in range(cpus):
        n = len(re.findall(rf"^\S+ hv/1/vp{vp} msr.write msr=STIMER0_COUNT ", text, re.M))
        check(f"trace: VP {vp} arms its synthetic timer ({n} times)", n > 0)
    for row in ("msr.write msr=GUEST_OS_ID", "msr.write msr=HYPERCALL",
                "msr.write msr=REFERENCE_TSC", "stimer.expire"):
        check(f"trace: {row}", f" {row}" in text)
    refused = re.findall(r"^.*msr\..*result=#GP.*$", text, re.M)
    check("trace: no register access is refused", not refused, "\n".join(refused))


def check_trace_json(path, cpus):
    events = json.load(open(path))["traceEvents"]
    check("trace is JSON with events", len(events) > 100, len(events))
    tracks = {e["args"]["name"]: e["tid"] for e in events if e["ph"] == "M"}
    check("a track for each VP", all(f"hv/1/vp{i}" in tracks for i in range(cpus)), tracks)
    used = {e["tid"] for e in events if e["ph"] != "M"}
    check("events on each VP's track", all(tracks.get(f"hv/1/vp{i}") in used for i in range(cpus)))
    depth, last, bad = {}, {}, []
    for e in events:
        t = e["tid"]
        if e["ph"] == "M":
            continue
        depth[t] = depth.get(t, 0) + {"B": 1, "E": -1, "i": 0}[e["ph"]]
        if depth[t] < 0 or e["ts"] < last.get(t, 0):
            bad.append(e)
        last[t] = e["ts"]
    check("on each track time goes forward and ends follow begins", not bad, bad[:3])


def boot_case(kernel, cpus):
    # One VP also shows power-off, two a status, eight the JSON trace.
    @case(f"boot-{kernel}-{cpus}vp", timeout=300)
    def run():
        end = {1: "poweroff -f", 2: "exit 7", 8: "exit 0"}[cpus]
        with scratch() as d:
            trace = d + ("/t.json" if cpus == 8 else "/t.txt")
            r = boot(kernel, "--cpus", str(cpus), "--trace", trace, sh=LOOK + end)
            check_guest(r, cpus)
            check({1: "power-off is status 0", 2: "the command's status is ours",
                   8: "success is status 0"}[cpus], r.code == (7 if cpus == 2 else 0), r)
            check("one summary line with the time to init",
                  re.search(rf"^nestor: guest, {re.escape(kernel)}\.\S+, {cpus} VPs?: .*init at "
                            r"\d+\.\d+ s, \d+ exits; \d+ exits \(.*\); \d+ hypercalls(, \d+ refused)?$",
                            r.summary()), r.err)
            if cpus == 8:
                check_trace_json(trace, cpus)
            else:
                check_trace_text(trace, cpus)
            s = nestor("trace", "summary", trace)
            total = re.search(r"^ *(\d+)  events$", s.out, re.M)
            rows = re.findall(r"^ *(\d+)  (\S+) ?(\S*)$", s.out, re.M)
            counts = [int(n) for n, what, _ in rows if what != "events"]
            check("nestor trace summary adds up", s.code == 0 and total and
                  int(total.group(1)) == sum(counts), s)
            check("and counts STIMER0_COUNT", re.search(r"^ *\d+  msr.write STIMER0_COUNT$", s.out,
                                                       re.M), s)


for k in KERNELS:
    for n in (1, 2, 8):
        boot_case(k, n)


@case("boot-6.1-64vp", timeout=900)
def boot_64():
    r = nestor("run", "--kernel", "6.1", "--cpus", "64", "--memory", "1G", "--timeout", "840", "--",
               "sh", "-c", SLEEPS + "echo @nproc; nproc; echo @interrupts; grep HVS /proc/interrupts; echo @",
               timeout=880)
    check("64 processors are up", r.section("nproc").strip() == "64", r)
    hvs = counter(r.out, "HVS")
    check("each takes timer interrupts", len(hvs) == 64 and all(hvs), r)
    # The incubator's KVM can have them; another machine's may not have the clock for that.
    if not uses_kvm():
        writes = int(re.search(r"(\d+) MSR write", r.summary()).group(1))
        check(f"and without a trace KVM has the timers ({sum(hvs)} shots, {writes} writes of registers exit)",
              writes < sum(hvs) / 4, r)
    check("status 0", r.code == 0, r)


# --- how a machine ends ---

# ACPI's reset register is port CF9 as well.
def reboot_case(kernel, how, code, text):
    @case(f"reboot-{kernel}-{how}")
    def run():
        r = boot(kernel, "--append", f"reboot={how}", sh="reboot -f")
        check(f"status {code}", r.code == code, r)
        check(f"the summary says how: {text}", text in r.summary(), r.err)


reboot_case("6.12", "acpi", 100, "the guest reset itself (cf9)")
reboot_case("6.12", "kbd", 100, "the guest reset itself (keyboard controller")
reboot_case("6.12", "pci", 100, "the guest reset itself (cf9)")
reboot_case("6.12", "bios", 100, "the guest reset itself (")
reboot_case("6.1", "acpi", 100, "the guest reset itself (cf9)")
# A triple fault is told from the guest's wish only by the guest: it keeps a status of its own.
reboot_case("6.12", "triple", 102, "triple-faulted")
reboot_case("6.1", "triple", 102, "triple-faulted")


def panic_case(kernel):
    @case(f"panic-{kernel}")
    def run():
        r = boot(kernel, "--append", "panic=-1", sh="echo c >/proc/sysrq-trigger")
        check("status 101", r.code == 101, r)
        check("the report names the reason", "the guest reported a panic: Kernel panic - not "
              "syncing: sysrq triggered crash\n" in r.err, r)
        check("has the five parameters", re.search(
            r"crash registers: P0 0x[0-9a-f]+ P1 0x\S+ P2 0x\S+ P3 0x\S+ P4 0x\S+$", r.err, re.M), r)
        check("and the kernel's own text", re.search(r"^  \| \[ .*RIP: 0033", r.err, re.M), r)

    @case(f"panic-{kernel}-no-root")
    def no_root():
        with scratch() as d:
            empty = d + "/initrd"
            # A valid archive without an init.
            with open(empty, "wb") as f:
                f.write(b"070701" + b"0" * 88 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0")
            r = boot(kernel, "--cpus", "2", "--initrd", empty, "--append", "panic=-1")
        check("status 101", r.code == 101, r)
        check("the report names the reason", re.search(
            r"panic: Kernel panic - not syncing: (VFS: Unable to mount root|No working init)", r.err), r)


for k in KERNELS:
    panic_case(k)


@case("timeout")
def time_limit():
    r = nestor("run", "--timeout", "5", "--", "sleep", "1000")
    check("status 124", r.code == 124, r)
    check("the summary says so", "the time limit ran out" in r.summary(), r)
    check("within a few seconds of it", r.seconds < 30, r)


def processes(mark):
    """Processes whose environment holds @mark: all that came from one command."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark.encode() in open(f"/proc/{p}/environ", "rb").read():
                found.append(int(p))
    return found


def signal_case(name, number, code):
    @case(name)
    def run():
        mark = f"NESTOR_TEST_MARK={name}-{os.getpid()}-{time.time_ns()}"
        env = dict(os.environ, **dict([mark.split("=", 1)]))
        env.pop("NESTOR_INCUBATOR_RETRY", None)  # it would hold the output back
        p = subprocess.Popen([NESTOR, "run", "--timeout", "100", "--", "sh", "-c",
                              "echo up; sleep 1000"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        for line in p.stdout:
            if line.strip() == b"up":
                break
        check("its processes are found by their mark", processes(mark))
        p.send_signal(number)
        out, err = p.communicate(timeout=30)
        check(f"status {code}", (p.returncode if p.returncode >= 0 else 128 - p.returncode) == code,
              f"{p.returncode} {err.decode()}")
        deadline = time.monotonic() + 5
        while processes(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        check("nothing is left behind", not processes(mark), processes(mark))


signal_case("sigterm", signal.SIGTERM, 143)
signal_case("sigint", signal.SIGINT, 130)


@case("two-at-once")
def two_at_once():
    both = [subprocess.Popen([NESTOR, "run", "--kernel", k, "--timeout", "240", "--", "sh", "-c",
                              f"echo this is $(uname -r); exit {i}"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for i, k in ((11, "6.1"), (12, "6.12"))]
    for p, status, k in zip(both, (11, 12), KERNELS):
        out, err = p.communicate(timeout=280)
        check(f"{k}: its own status", p.returncode == status, err.decode())
        check(f"{k}: its own console", f"this is {k}." in out.decode(), out.decode())


# --- console, root, memory, JSON ---

@case("console-both-ways")
def console():
    r = boot("6.12", sh="stty -echo -icrnl; echo ready; head -n 400 | tr a-z A-Z | md5sum; echo @",
             stdin="".join(f"line {i} the quick brown fox jumps\n" for i in range(400)).encode())
    import hashlib
    want = hashlib.md5("".join(f"line {i} the quick brown fox jumps\n" for i in range(400)).upper()
                       .encode()).hexdigest()
    check("13 KB of standard input reach the command whole", want in r.out, r)
    check("status 0", r.code == 0, r)
    r = boot("6.12", stdin=b"echo it is $((6*7)); exit 5\n")
    check("without a command a shell reads the console", "it is 42" in r.out, r)
    check("and its status is ours", r.code == 5, r)


@case("console-output")
def console_output():
    r = boot("6.1", sh="seq 1 3000; exit 3")
    numbers = re.findall(r"^(\d+)$", r.out, re.M)
    check("3000 lines of output arrive in order", numbers == [str(i) for i in range(1, 3001)],
          len(numbers))
    check("status 3", r.code == 3, r)


@case("rootfs")
def rootfs():
    with scratch() as d:
        root = d + "/root"
        for sub in ("bin", "etc", "sub/deep"):
            os.makedirs(f"{root}/{sub}")
        busybox = next(b for b in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(b))
        shutil.copy(busybox, root + "/bin/busybox")
        for applet in ("sh", "cat", "ls", "stat", "md5sum"):
            os.symlink("busybox", f"{root}/bin/{applet}")
        big = os.urandom(3000001)
        open(root + "/sub/big", "wb").write(big)
        open(root + "/sub/deep/a file", "w").write("contents\n")
        os.chmod(root + "/sub/deep/a file", 0o4751)
        os.mkdir(root + "/sub/private", 0o700)
        os.chmod(root + "/sub/private", 0o1770)
        os.symlink("../sub/deep/a file", root + "/etc/link")
        os.link(root + "/sub/big", root + "/sub/hard")
        os.mkfifo(root + "/sub/fifo")
        r = boot("6.12", "--rootfs", root,
                 sh="cat /etc/link; stat -c '%a %F %n' '/sub/deep/a file' /sub/private /sub/fifo; "
                    "md5sum </sub/big; stat -c 'links %h' /sub/hard; ls /sub")
        import hashlib
        check("a file through a symbolic link", "contents\n" in r.out, r)
        check("modes of a file", "4751 regular file /sub/deep/a file" in r.out, r)
        check("modes of a directory", "1770 directory /sub/private" in r.out, r)
        check("a named pipe", re.search(r"fifo /sub/fifo", r.out), r)
        check("3 MB unchanged", hashlib.md5(big).hexdigest() in r.out, r)
        check("a hard link stays one", "links 2" in r.out, r)
        check("status 0", r.code == 0, r)


@case("memory-8G", timeout=300)
def memory():
    r = boot("6.12", "--memory", "8G",
             sh="grep MemTotal /proc/meminfo; grep -A 20 'zone *Normal' /proc/zoneinfo | "
                "grep -E 'present|free_pages|nr_free'; dd if=/dev/zero of=/tmp/x bs=1M count=64 2>&1; "
                "md5sum /tmp/x; grep 'System RAM' /proc/iomem")
    total = re.search(r"MemTotal: +(\d+) kB", r.out)
    check("the guest sees 8 GiB", total and 7.5 * 2**20 < int(total.group(1)) <= 8 * 2**20, r)
    check("RAM above 4 GiB is in use", re.search(r"present +(\d{7})", r.out), r)
    check("and holds what was written", "7f614da9329cd3aebf59b91aadc30bf0" in r.out, r)
    check("status 0", r.code == 0, r)


@case("memory-256G", suite="soak", timeout=900)
def memory_sparse():
    r = nestor("run", "--kernel", "6.12", "--memory", "256G", "--timeout", "840", "--", "sh", "-c",
               "grep MemTotal /proc/meminfo; dd if=/dev/zero of=/tmp/x bs=1M count=64 2>&1; "
               "md5sum /tmp/x", timeout=880)
    total = re.search(r"MemTotal: +(\d+) kB", r.out)
    check("the guest sees 256 GiB", total and 250 * 2**20 < int(total.group(1)) <= 256 * 2**20, r)
    check("and they hold what was written", "7f614da9329cd3aebf59b91aadc30bf0" in r.out, r)
    check("status 0", r.code == 0, r)


@case("json-summary")
def json_summary():
    r = boot("6.1", "--json", sh="echo hello; exit 9")
    lines = [l for l in r.err.splitlines() if l.startswith("{")]
    check("one line of JSON on standard error", len(lines) == 1, r)
    o = json.loads(lines[0])
    want = {"role": str, "kernel": str, "cpus": int, "memory_bytes": int, "ended": str,
            "status": int, "start_seconds": float, "start_cpu_seconds": float, "init_seconds": float, "run_seconds": float,
            "exits_to_init": int, "exits": dict, "hypercalls": int, "hypercalls_refused": int,
            "msr_accesses": int, "msr_refused": int, "unclaimed_io": int}
    for name, kind in want.items():
        check(f"field {name}", isinstance(o.get(name), kind), o)
    check("values are those of the run", o["role"] == "guest" and o["cpus"] == 1 and
          o["status"] == 9 and o["memory_bytes"] == 512 << 20 and o["kernel"].startswith("6.1.") and
          o["crash"] is None and o["msr_refused"] == 0 and r.code == 9, o)
    check("the console stays clean of it", "hello\n" in r.out and "{" not in r.out, r.out)


@case("fail-on-purpose")
def fail_on_purpose():
    """A message that finds no buffer is sent again; a guest creates no processor."""
    rules = "HvCallPostMessage@1=HV_STATUS_INSUFFICIENT_BUFFERS", "HvCallCreateVp=HV_STATUS_OPERATION_FAILED"
    options = "--fail", "PostMessage@1=insufficient_buffers", "--fail", "CreateVp"
    with scratch() as d:
        r = boot("6.12", *options, "--json", "--trace", d + "/t.txt", sh="ls /sys/bus/vmbus/devices | wc -l")
        seen = re.findall(r"(?:hypercall\.fail|hypercall\.return) code=HvCallPostMessage .*", open(d + "/t.txt").read())
    check("its VMBus connects", r.code == 0 and re.search(r"^[6-9]$", r.out, re.M), r)
    o = json.loads([l for l in r.err.splitlines() if l.startswith("{")][0])
    fails = {f["rule"]: f for f in o["fails"]}
    check("the rules are named", tuple(fails) == rules, o["fails"])
    check("one message failed", fails[rules[0]]["failed"] == 1 < fails[rules[0]]["calls"], o["fails"])
    check("nothing else did", fails[rules[1]]["calls"] == 0 == fails[rules[1]]["failed"], o["fails"])
    check("it was the first", [s.split()[0] for s in seen[:2]] == ["hypercall.fail", "hypercall.return"] and
          all("INSUFFICIENT_BUFFERS" in s for s in seen[:2]), seen[:4])
    r = boot("6.12", *options, sh="true")
    check("the end of a run says so", re.search(rf"^nestor: --fail {rules[0]}: 1 of \d+ calls failed on purpose$\n"
                                               rf"^nestor: --fail {rules[1]}: never happened, in 0 calls$", r.err, re.M), r)


# --- wrong usage: one clear line, status 2 ---

USAGE = (
    # name | arguments of nestor | what the line says
    ("an unknown option", ("run", "--bogus"), "there is no option --bogus"),
    ("an option without its value", ("run", "--cpus"), "--cpus needs N"),
    ("a value where none goes", ("run", "--json=1"), "--json takes no value"),
    ("too many processors", ("run", "--cpus", "65"), "not a number from 1 to 64"),
    ("no processor", ("run", "--cpus", "0"), "not a number from 1 to 64"),
    ("a size that is none", ("run", "--memory", "lots"), "not a size"),
    ("too little memory for a machine", ("run", "--memory", "1M"), "from 64 MiB"),
    ("too little memory for the kernel", ("run", "--memory", "64M", "--", "true"),
     "does not fit into memory: it needs"),
    ("a time that is none", ("run", "--timeout", "soon"), "not a time"),
    ("an unknown numbering", ("run", "--nested-vp-index", "x"), "not same or reversed"),
    ("an unknown scheduler", ("run", "--role", "root", "--scheduler", "x"), "not hypervisor or root"),
    ("nothing to schedule", ("run", "--scheduler", "root"), "role guest has no children"),
    ("a call that is none", ("run", "--fail", "deposit"), "did you mean HvCallDepositMemory?"),
    ("a status that is none", ("run", "--fail", "DepositMemory=x"), "'x' is no status"),
    ("an element of a call without", ("run", "--fail", "PostMessage+1"), "no list of elements"),
    ("L0 where there is none", ("run", "--fail", "L0:PostMessage"), "leave out 'L0:'"),
    ("an unknown role", ("run", "--role", "nobody"), "there is no such role"),
    ("a stray word", ("run", "uname"), "after --"),
    ("a kernel that is not there", ("run", "--kernel", "/nonexistent"), "No such file"),
    ("a version that is not cached", ("run", "--kernel", "9.9"), "tools/kernels fetch"),
    ("a kernel that is none", ("run", "--kernel", "/etc/passwd"), "not a Linux kernel"),
    ("a directory for a kernel", ("run", "--kernel", "/etc/"), "/etc/"),
    ("an initrd that is not there", ("run", "--initrd", "/nonexistent"), "/nonexistent: No such"),
    ("a root that is not there", ("run", "--rootfs", "/nonexistent"), "/nonexistent: No such"),
    ("a root that is a file", ("run", "--rootfs", "/etc/passwd"), "/etc/passwd: Not a dir"),
    ("a root and an initrd", ("run", "--rootfs", "/etc", "--initrd", "/etc/passwd"), "exclude"),
    ("a trace that cannot be written", ("run", "--trace", "/nonexistent/t", "--", "true"),
     "/nonexistent/t: No such"),
    ("a trace that cannot be read", ("trace", "summary", "/nonexistent"), "No such file"),
    ("help on nothing", ("help", "nothing"), "no command 'nothing'"),
    ("an unknown command", ("fly",), "no command 'fly'"),
)


@case("usage", timeout=300)
def usage():
    for what, args, says in USAGE:
        r = nestor(*args)
        lines = (r.out + r.err).splitlines()
        check(what, r.code == 2 and len(lines) == 1 and says in lines[0], r)
    if os.geteuid() != 0:
        with scratch() as d:
            open(d + "/k", "w").close()
            os.chmod(d + "/k", 0)
            r = nestor("run", "--kernel", d + "/k")
            check("a kernel that may not be read", r.code == 2 and "Permission denied" in r.err, r)


# --- golden lists: what a kernel asks of its hypervisor, in order ---

# Registers whose values are addresses or depend on this host; the low bit or two say "enabled".
PAGES = ("REFERENCE_TSC", "VP_ASSIST_PAGE", "HYPERCALL", "SIMP", "SIEFP", "CRASH_P", "INPUT")
HOST = ("TSC_FREQUENCY", "APIC_FREQUENCY", "TIME_REF_COUNT", "VP_RUNTIME", "CRASH_CTL")

ANY_TIME = re.compile(r"read TIME_REF_COUNT |write (STIMER\d_COUNT \*|(NESTED_)?EOM )|HvCall(PostMessage|SignalEvent) ")


def normalise(path):
    """Ordered interactions per VP; repeats of one register folded; host values taken out."""
    tracks = {}
    for line in open(path):
        m = re.match(r"\S+ (?:hv|L1)/\d+/(vp\d+) (msr\.read|msr\.write|hypercall\.call|hypercall\.return) "
                     r"(.*)", line)
        if not m:
            continue
        vp, event, rest = m.groups()
        fields = dict(f.split("=", 1) for f in rest.split())
        if event == "hypercall.call":
            continue    # its return says as much, and the status
        if event == "hypercall.return":
            if (fields["code"], fields["status"]) == ("HvCallSignalEvent",
                                                      "HV_STATUS_INVALID_CONNECTION_ID"):
                continue    # a signal that crossed the closing of its channel
            text = f"{fields['code']} {fields['status']} by {fields['by']}"
        else:
            name, value = fields["msr"], fields["value"]
            if name == "TSC_INVARIANT_CONTROL":
                continue    # only on hosts whose TSC is invariant
            if name.replace("NESTED_", "").startswith(PAGES) and int(value, 16):
                value = f"page|{int(value, 16) & 0xFFF:x}"
            elif name.startswith(HOST):
                value = "*"
            elif name == "GUEST_OS_ID":
                value = "linux" if int(value, 16) >> 56 == 0x81 else value
            elif name.endswith("_COUNT") and int(value, 16):
                value = "*"
            text = f"{event[4:]} {name} {value} {fields['result']} by {fields['by']}"
        lines = tracks.setdefault(vp, [])
        # What answers a timer, a device or a message comes when it comes: once, at its first time.
        if text not in lines if ANY_TIME.match(text) else lines[-1:] != [text]:
            lines.append(text)
    return "".join(f"{vp} {l}\n" for vp in sorted(tracks) for l in tracks[vp])


def golden_run(kernel, role="guest"):
    with scratch() as d:
        r = boot(kernel, "--role", role, "--trace", d + "/t.txt", sh="true")
        return r, normalise(d + "/t.txt") if r.code == 0 else ""


GOLDEN_BOOTS = [("guest", k) for k in KERNELS]    # tests/roles.py adds its own


def golden_check(role, kernel):
    import difflib
    r, seen = golden_run(kernel, role)
    check("it boots", r.code == 0, r)
    text = open(f"{GOLDEN}/{role}-{kernel}.txt").read()
    want = "".join(l for l in text.splitlines(True) if not l.startswith("#"))
    check("it asks its hypervisor what it always asked", seen == want, "".join(
        difflib.unified_diff(want.splitlines(True), seen.splitlines(True), "golden", "seen")))


def golden_case(role, kernel):
    name = f"golden-{kernel}" if role == "guest" else f"golden-{role}-{kernel}"
    case(name)(lambda: golden_check(role, kernel))


for role, k in GOLDEN_BOOTS:
    golden_case(role, k)


def update_golden(boots):
    os.makedirs(GOLDEN, exist_ok=True)
    for role, k in boots:
        r, seen = golden_run(k, role)
        if not seen:
            sys.exit(f"{role} {k} did not boot\n{r}")
        with open(f"{GOLDEN}/{role}-{k}.txt", "w") as f:
            f.write("# SPDX-License-Identifier: MIT\n"
                    f"# What stock Linux {k} with one VP asks of its hypervisor in role {role}, from\n"
                    "# power-on to its first program. Made by: tests/boots.py --update-golden\n" + seen)
        print(f"{GOLDEN}/{role}-{k}.txt: {seen.count(chr(10))} lines")


def can_run():
    p = subprocess.run([NESTOR, "doctor"], capture_output=True)
    return p.returncode == 0


def main(golden=GOLDEN_BOOTS):
    if sys.argv[1:] == ["--list"]:
        for name, (suite, timeout, _) in cases.items():
            print(name, suite, timeout)
        return 0
    if sys.argv[1:] == ["--update-golden"]:
        update_golden(golden)
        return 0
    if len(sys.argv) != 2 or sys.argv[1] not in cases:
        sys.exit(__doc__)
    if not can_run():
        print("1..0 # SKIP this host can run no machine; see nestor doctor")
        return 0
    if time.time() + 120 > float(os.environ.get("NESTOR_CHECK_UNTIL") or "inf"):
        print("1..0 # SKIP no time is left")
        return 0
    try:
        cases[sys.argv[1]][2]()
    except Exception as e:    # a run that hung, an answer that did not parse
        check(f"{type(e).__name__}: {e}", False)
    print(f"1..{checks}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
