#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The incubator as its users see it: incubator_test.py PROGRAM

PROGRAM is nestor (or a stand-in that knows `incubator`). Needs QEMU and a kernel in the cache;
without them the test is skipped (exit status 77). Prints one line per check.
"""
import hashlib, json, os, pty, re, select, signal, subprocess, sys, tempfile, termios, time, tty

if len(sys.argv) != 2:
    sys.exit(__doc__)
PROGRAM = os.path.abspath(sys.argv[1])
RUN = [PROGRAM, "incubator", "--"]
ENV = dict(os.environ, NESTOR_INCUBATOR_NO_SAVE="1")
ENV.pop("NESTOR_INCUBATOR_RETRY", None)  # output is looked at while it comes
LIMIT = 120
# A hang is told after 20 s if the host has nothing else to do, later if it has.
HANG_LIMIT = 400
failures = 0
checks = []


def check(function):
    checks.append(function)
    return function


def run(*command, **options):
    options.setdefault("timeout", LIMIT)
    options.setdefault("capture_output", True)
    options.setdefault("env", ENV)
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if options["stdin"] is None:
        del options["stdin"]
    return subprocess.run(RUN + list(command), **options)


def start(*command, **options):
    options.setdefault("env", ENV)
    options.setdefault("stdin", subprocess.PIPE)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen(RUN + list(command), **options)


def children_of(pid):
    """QEMU processes that @pid started, by their parent's number at the time."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{p}/stat").read()
        except OSError:
            continue
        if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
            found.append(int(p))
    return found


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_line(process, want):
    line = process.stdout.readline()
    assert line == want, line


@check
def exit_status():
    for status in (0, 3, 255):
        r = run("sh", "-c", f"exit {status}")
        assert r.returncode == status, r


@check
def death_by_signal():
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        r = run("sh", "-c", f"kill -{int(number)} $$")
        assert r.returncode == -number, r


@check
def command_not_found():
    assert run("no-such-command").returncode == 127
    assert run("/etc/passwd").returncode == 126
    assert b"No such file" in run("no-such-command").stderr


@check
def kvm_is_there():
    r = run("sh", "-c", "test -w /dev/kvm && grep -c ' svm' /proc/cpuinfo")
    assert r.returncode == 0 and int(r.stdout) >= 2, r


@check
def streams_are_separate():
    r = run("sh", "-c", "echo out; echo err >&2; echo more")
    assert r.stdout == b"out\nmore\n" and r.stderr == b"err\n", r


@check
def ten_megabytes_through_cat():
    data = os.urandom(10_000_000)
    t = time.monotonic()
    r = run("cat", input=data)
    assert r.returncode == 0 and r.stdout == data, (r.returncode, len(r.stdout))
    return f"{10 / (time.monotonic() - t):.0f} MB/s with the start"


@check
def much_output_to_a_slow_reader():
    p = start("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' a; echo end >&2")
    time.sleep(2)
    out = b""
    while True:
        part = os.read(p.stdout.fileno(), 30000)
        if not part:
            break
        out += part
    assert p.wait(LIMIT) == 0 and out == b"a" * 3000000 and p.stderr.read() == b"end\n"
    p.communicate()


@check
def closed_output_is_a_broken_pipe():
    p = start("sh", "-c", "yes; kill -9 $$ 2>/dev/null")
    p.stdout.read(1000)
    p.stdout.close()
    p.stdin.close()
    assert p.wait(LIMIT) in (-9, 141, -13), p.returncode
    p.stderr.close()


@check
def end_of_input():
    r = run("sh", "-c", "cat; echo done", input=b"one line\n")
    assert r.stdout == b"one line\ndone\n", r
    assert run("cat").stdout == b""


@check
def surroundings():
    with tempfile.TemporaryDirectory() as d:
        old = os.umask(0o027)
        try:
            r = run("sh", "-c", "pwd; umask; echo $SOME_VARIABLE $NESTOR_INSIDE; id -u; hostname; ulimit -n",
                    cwd=d, env=dict(ENV, SOME_VARIABLE="a value"))
        finally:
            os.umask(old)
        here = subprocess.run(["sh", "-c", "id -u; hostname; ulimit -n"], capture_output=True).stdout
        want = f"{os.path.realpath(d)}\n0027\na value 1\n".encode() + here
        assert r.stdout == want, (r.stdout, want)


@check
def arguments_as_they_are():
    args = ["", "a b", "'\"\\", "ä\n", "-x", "x" * 100000]
    r = run("python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *args)
    assert json.loads(r.stdout) == args


@check
def clock_is_right():
    inside = float(run("date", "+%s.%N").stdout)
    assert abs(inside - time.time()) < 3, inside - time.time()


@check
def files_written_inside():
    with tempfile.TemporaryDirectory() as d:
        disk = f"{d}/disk.img"
        open(disk, "wb").write(b"\xee" * (4 << 20))
        code = f"""
import os, mmap
fd = os.open({disk!r}, os.O_RDWR | os.O_DIRECT)
block = mmap.mmap(-1, 8192)
assert os.preadv(fd, [block], 4096) == 8192 and block[0] == 0xee
block[:] = b'D' * 8192
assert os.pwritev(fd, [block], 1 << 20) == 8192
os.fsync(fd)
fd = os.open({disk!r}, os.O_RDWR)
assert os.pread(fd, 1, 1 << 20) == b'D'
os.pwrite(fd, b'buffered', 100)
view = mmap.mmap(os.open({disk!r}, os.O_RDONLY), 4 << 20, prot=mmap.PROT_READ)
assert view[1 << 20] == 68 and view[100:108] == b'buffered'
open({d!r} + '/new', 'w').write('text')
os.rename({d!r} + '/new', {d!r} + '/renamed')
os.kill(os.getpid(), 9)
"""
        r = run("python3", "-c", code)
        assert r.returncode == -9, r
        data = open(disk, "rb").read()
        assert data[1 << 20:(1 << 20) + 8192] == b"D" * 8192 and data[100:108] == b"buffered"
        assert len(data) == 4 << 20 and data[(1 << 20) + 8192] == 0xee
        assert open(f"{d}/renamed").read() == "text"


@check
def file_changed_outside_meanwhile():
    with tempfile.TemporaryDirectory() as d:
        open(f"{d}/f", "w").write("before\n")
        p = start("sh", "-c", f"cat {d}/f; read x; cat {d}/f")
        wait_line(p, b"before\n")
        time.sleep(0.05)
        open(f"{d}/f", "w").write("after it\n")
        out, _ = p.communicate(b"\n", LIMIT)
        assert out == b"after it\n", out


@check
def signals_are_forwarded():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
        p = start("python3", "-c", "import signal, sys\n"
                  "def got(n, f): print('got', n); sys.exit(9)\n"
                  f"signal.signal({int(number)}, got)\nprint('ready', flush=True)\nwhile True: signal.pause()")
        wait_line(p, b"ready\n")
        p.send_signal(number)
        out, err = p.communicate(timeout=LIMIT)
        assert p.returncode == 9 and out == f"got {int(number)}\n".encode(), (number, p.returncode, out, err)


@check
def unhandled_signal_kills():
    p = start("sh", "-c", "echo ready; exec sleep 1000")
    wait_line(p, b"ready\n")
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=LIMIT)
    assert p.returncode == -signal.SIGTERM, p.returncode


@check
def two_at_once():
    both = [start("sh", "-c", "echo ready; read x; echo $x; exit 5") for _ in range(2)]
    for p in both:
        wait_line(p, b"ready\n")
    for i, p in enumerate(both):
        out, _ = p.communicate(f"number {i}\n".encode(), LIMIT)
        assert out == f"number {i}\n".encode() and p.returncode == 5


@check
def second_command_in_the_same_machine():
    name = f"test-{os.getpid()}"
    p = subprocess.Popen([PROGRAM, "incubator", "--name", name, "--", "sh", "-c",
                          "mkdir -p /run/nestor; echo secret >/run/nestor/f; echo ready; read x; exit 4"],
                         env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_line(p, b"ready\n")
    listing = subprocess.run([PROGRAM, "incubator", "--list"], capture_output=True, env=ENV, text=True)
    assert re.search(rf"^{name} +{p.pid}$", listing.stdout, re.M), listing
    exec_ = [PROGRAM, "incubator", "--exec", "--name", name, "--"]
    r = subprocess.run(exec_ + ["sh", "-c", "cat /run/nestor/f; exit 6"], capture_output=True, env=ENV)
    assert r.returncode == 6 and r.stdout == b"secret\n", r
    data = os.urandom(2_000_000)
    r = subprocess.run(exec_ + ["cat"], input=data, capture_output=True, env=ENV)
    assert r.stdout == data
    left = subprocess.Popen(exec_ + ["sleep", "1000"], env=ENV)
    time.sleep(0.5)
    left.kill()
    left.wait()
    time.sleep(0.3)
    r = subprocess.run(exec_ + ["sh", "-c", "ps ax | grep -c '[s]leep 1000'"], capture_output=True, env=ENV)
    assert r.stdout == b"0\n", r
    p.communicate(b"\n", LIMIT)
    assert p.returncode == 4
    r = subprocess.run(exec_ + ["true"], capture_output=True, env=ENV)
    assert r.returncode == 125 and b"no such incubator" in r.stderr


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(PROGRAM, RUN + list(command), ENV)
        self.text = b""

    def until(self, want, limit=LIMIT):
        end = time.monotonic() + limit
        while want not in self.text:
            left = end - time.monotonic()
            assert left > 0, self.text
            if select.select([self.fd], [], [], left)[0]:
                try:
                    part = os.read(self.fd, 4096)
                except OSError:
                    part = b""
                assert part or want in self.text, self.text
                self.text += part
        at = self.text.index(want) + len(want)
        before, self.text = self.text[:at], self.text[at:]
        return before

    def send(self, data):
        os.write(self.fd, data)

    def wait(self):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.fd, 4096)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("it does not end")


@check
def terminal():
    t = Terminal("sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo all three; stty size; read x; echo got $x; exit 7")
    tty_fd = t.fd
    t.until(b"all three\r\n")
    t.until(b"\r\n")
    assert not termios.tcgetattr(tty_fd)[3] & termios.ICANON, "the outer terminal is not raw"
    t.send(b"wrong\x7f\x7f\x7f\x7f\x7fright\r")
    t.until(b"got right\r\n")
    assert t.wait() == 7


@check
def terminal_interrupt():
    t = Terminal("sh", "-c", "trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 1; done")
    t.until(b"ready\r\n")
    t.send(b"\x03")
    t.until(b"caught")
    assert t.wait() == 8


@check
def terminal_way_out():
    t = Terminal("sh", "-c", "stty raw -echo; trap '' INT TERM HUP; printf ready; while :; do sleep 100; done")
    t.until(b"ready")
    for _ in range(3):
        t.send(b"\x01x")
        time.sleep(0.1)
    assert t.wait() == 125
    assert b"Ctrl-a x" in t.text, t.text


@check
def nested_machine_boots():
    cache = os.environ.get("NESTOR_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "nestor")
    kernels = f"{cache}/kernels"
    found = sorted(os.listdir(kernels)) if os.path.isdir(kernels) else []
    found = [k for k in found if os.path.exists(f"{kernels}/{k}/vmlinuz")]
    if not found:
        return "skipped: no guest kernel in the cache"
    r = run("qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-kernel", f"{kernels}/{found[-1]}/vmlinuz",
            "-append", "console=ttyS0 panic=-1 quiet")
    assert b"Kernel panic" in r.stdout, r.stdout[-500:]


@check
def first_cpu_runs_no_machine():
    r = run("sh", "-c", "nproc; taskset -p $$; grep -c ^processor /proc/cpuinfo")
    cpus, mask, all_cpus = r.stdout.decode().split("\n")[:3]
    mask = int(mask.split()[-1], 16)
    assert int(all_cpus) == int(cpus) + 1 and not mask & 1 and mask.bit_count() == int(cpus), r


# On the CPU that does not beat as on the others: a busy one is told soonest.
SPIN = "for i in 1 2 3 4; do while :; do :; done & done; wait"


@check
def hang_is_told():
    before = set(os.listdir("/tmp")) | set(os.listdir("/dev/shm"))
    t = time.monotonic()
    p = start("sh", "-c", f"echo ready; {SPIN}", stdin=subprocess.DEVNULL,
              env=dict(ENV, NESTOR_INCUBATOR_TEST_STALL="1"))
    wait_line(p, b"ready\n")
    machine = children_of(p.pid)
    out, err = p.communicate(timeout=HANG_LIMIT)
    t = time.monotonic() - t
    assert p.returncode == 122 and out == b"", (p.returncode, out, err)
    assert err == b"nestor: the incubator hung (a fault of QEMU's SVM emulation, see doc/incubator.md); " \
                  b"run it again\n", err
    assert t >= 20 and machine and not any(map(alive, machine)) and not left_behind(before)
    return f"after {t:.0f} s"


@check
def hung_command_starts_again():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d:
        script = f"if test -e {d}/f; then echo second; echo last >&2; exit 4; fi; touch {d}/f; echo first; {SPIN}"
        r = run("sh", "-c", script, timeout=HANG_LIMIT,
                env=dict(ENV, NESTOR_INCUBATOR_TEST_STALL="2", NESTOR_INCUBATOR_RETRY="2"))
    assert r.returncode == 4 and r.stdout == b"second\n", r
    assert b"starting again (1 of 2)\nlast\n" in r.stderr, r


@check
def held_output_is_whole():
    script = "yes out | head -c 70000000; for i in 1 2 3; do echo $i; echo $i >&2; done; exit 5"
    r = run("sh", "-c", script, env=dict(ENV, NESTOR_INCUBATOR_RETRY="1"), timeout=HANG_LIMIT)
    assert r.returncode == 5 and r.stderr == b"1\n2\n3\n", (r.returncode, r.stderr)
    assert len(r.stdout) == 70000006 and r.stdout.endswith(b"out\n1\n2\n3\n"), len(r.stdout)


@check
def nobody_looking_is_no_hang():
    p = start("sh", "-c", "echo ready; while :; do :; done & while :; do :; done & read x; echo still; exit 3")
    wait_line(p, b"ready\n")
    p.send_signal(signal.SIGSTOP)
    time.sleep(25)
    p.send_signal(signal.SIGCONT)
    time.sleep(3)
    out, err = p.communicate(b"\n", LIMIT)
    assert p.returncode == 3 and out == b"still\n" and err == b"", (p.returncode, out, err)


def left_behind(before):
    """Files and sockets that appeared; whatever else runs here keeps its own."""
    names = set(os.listdir("/tmp")) | set(os.listdir("/dev/shm"))
    return {n for n in names - before if "nestor" in n or "qemu" in n}


@check
def nothing_left_behind():
    before = set(os.listdir("/tmp")) | set(os.listdir("/dev/shm"))
    p = start("sh", "-c", "echo ready; read x")
    wait_line(p, b"ready\n")
    machine = children_of(p.pid)
    assert machine
    p.communicate(b"\n", LIMIT)
    assert not any(map(alive, machine)) and not left_behind(before)
    # the outer process dies without a chance to clean up
    p = start("sh", "-c", "echo ready; read x")
    wait_line(p, b"ready\n")
    machine = children_of(p.pid)
    p.kill()
    p.communicate()
    end = time.monotonic() + 10
    while any(map(alive, machine)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, machine)), "QEMU lives on"
    assert not left_behind(before)
    assert str(p.pid) not in subprocess.run([PROGRAM, "incubator", "--list"], capture_output=True,
                                            text=True, env=ENV).stdout


@check
def every_way_of_starting():
    notes = []
    for way in ("stock", "small", "saved"):
        t = time.monotonic()
        r = run("uname", "-r", env=dict(ENV, NESTOR_INCUBATOR=way))
        if r.returncode == 125 and b"tools/" in r.stderr:
            continue  # its kernel is not there, and the message says how to get it
        assert r.returncode == 0, (way, r)
        assert (b"nestor" in r.stdout) == (way != "stock") or way == "saved", r
        notes.append(f"{way} {time.monotonic() - t:.1f} s")
    return ", ".join(notes)


@check
def broken_saved_machine_is_no_obstacle():
    listing = json.loads(subprocess.run([PROGRAM, "doctor", "--json"], capture_output=True).stdout)
    saved = listing["incubator"]["saved_machine"]
    assert saved
    state = open(f"{saved}/state", "rb").read()
    try:
        open(f"{saved}/state", "r+b").truncate(1000)
        r = run("echo", "alive")
        assert r.stdout == b"alive\n" and b"booting instead" in r.stderr, r
    finally:
        open(f"{saved}/state", "wb").write(state)


@check
def what_is_missing_is_said():
    with tempfile.TemporaryDirectory() as d:
        r = run("true", env=dict(ENV, NESTOR_CACHE=d))
        assert r.returncode == 125 and b"tools/kernels fetch" in r.stderr, r
        r = run("true", env=dict(ENV, NESTOR_QEMU="/nonexistent"))
        assert r.returncode == 125 and b"tools/setup" in r.stderr, r
        r = run("true", env=dict(ENV, NESTOR_INCUBATOR="off"))
        assert r.returncode == 125 and b"off" in r.stderr, r


@check
def warm_start_time():
    times = []
    for _ in range(5):
        t = time.time()
        times.append(float(run("date", "+%s.%N").stdout) - t)
    times.sort()
    whole = time.monotonic()
    run("true")
    whole = time.monotonic() - whole
    assert times[2] < 5
    return f"command runs after {times[2]:.2f} s (best {times[0]:.2f}, worst {times[-1]:.2f}); " \
           f"whole run of true {whole:.2f} s"


def main():
    global failures
    doctor = subprocess.run([PROGRAM, "doctor", "--json"], capture_output=True, text=True)
    if not json.loads(doctor.stdout)["incubator"]["usable"]:
        print("skipped: the incubator cannot start here; see: nestor doctor")
        sys.exit(77)
    only = os.environ.get("ONLY", "").split()
    # From here on each start is a warm one; what it takes is measured at the end.
    subprocess.run([PROGRAM, "incubator", "--prepare"], env=ENV, timeout=LIMIT, check=True)
    for function in checks:
        if only and function.__name__ not in only:
            continue
        t = time.monotonic()
        try:
            note = function()
            word = "ok"
        except (AssertionError, subprocess.TimeoutExpired, OSError, ValueError) as e:
            failures += 1
            word, note = "FAILED", repr(e)[:600]
        print(f"{word:6} {function.__name__.replace('_', ' ')} ({time.monotonic() - t:.1f} s)"
              + (f": {note}" if note else ""), flush=True)
    sys.exit(1 if failures else 0)


main()
