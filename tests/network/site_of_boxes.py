"""A site of boxes on one machine: network namespaces with names, addresses and, if wished, file roots of their own.

The test starts itself anew in a process, mount and network namespace (enter_site). All else lives in there: when that
process ends, in whatever way, the kernel ends whatever runs inside and takes devices, mounts and files with it.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

SKIPPED = 77  # what CTest takes for "not permitted here"
INSIDE = "FLEXGEN_TEST_SITE"
FOLDER = pathlib.Path("/mnt")  # a file system in memory, of this site alone
NETWORK = "10.77.0"
AGENT = pathlib.Path(__file__).resolve().with_name("agent.sh")


def skip(reason):
    print(f"SKIPPED: {reason}", file=sys.stderr)
    sys.exit(SKIPPED)


def enter_site(*more_tools):
    """Returns inside; where namespaces are not permitted the test is skipped, with a word why."""
    if os.environ.get(INSIDE):
        run("mount", "-t", "tmpfs", "tmpfs", FOLDER)
        run("ip", "link", "set", "lo", "up")
        (FOLDER / "boxes").mkdir()
        return
    for tool in ("unshare", "nsenter", "ip", "tc", "mpirun", *more_tools):
        if not shutil.which(tool):
            skip(f"'{tool}' is not here")
    within = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = subprocess.run([*within, "ip", "link", "add", "probe", "type", "veth"], check=False, capture_output=True, text=True)
    if probe.returncode:
        skip(f"this user may not make networks (root with CAP_NET_ADMIN and CAP_SYS_ADMIN may): {probe.stderr.strip()}")
    os.execvpe(within[0], [*within, sys.executable, "-B", *sys.argv], dict(os.environ, **{INSIDE: "1"}))


def name_boxes(count):
    """Names and addresses of the boxes, in all of the site."""
    (FOLDER / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{NETWORK}.{i} box{i}\n" for i in range(1, count + 1)))
    run("mount", "--bind", FOLDER / "hosts", "/etc/hosts")


def run(*words, **named):
    done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, **named)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def is_dead(pid):
    text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return text.rsplit(")", 1)[1].split()[0] == "Z"


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Box:
    """A machine that is none: its processes see a host name, interfaces and, by what `setup` mounts, files of their own.

    The commands of `setup` run in it before anything else, $0 being its name; what it sees is below `root` then.
    """

    def __init__(self, name, number, setup=":", root="/"):
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self.into_root = [] if root == "/" else ["--root", "--wd"]
        self.port = f"port{number}"  # the other end of its cable
        script = f'set -e; hostname "$0"; ip link set lo up; mount -t sysfs sysfs /sys; {setup}\necho up; exec chroot {root} sleep infinity'
        self.process = subprocess.Popen(["unshare", "--net", "--uts", "--mount", "bash", "-c", script, name], text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "up\n":
            raise RuntimeError(f"{name} does not start")
        (FOLDER / "boxes" / name).write_text(str(self.process.pid))

    def enter(self):
        return ["nsenter", "--target", str(self.process.pid), "--net", "--uts", "--mount", *self.into_root]

    def run(self, *words, **named):
        return run(*self.enter(), *words, **named)

    def plug_in(self):
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def shape(self, rate):
        """What the box sends, as tc takes rates: 1gbit."""
        self.run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")

    def processes(self):
        """Process ids and command lines of what runs there, but for what holds the box itself."""
        own, found = os.readlink(f"/proc/{self.process.pid}/ns/net"), {}
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "ns" / "net") == own and not is_dead(entry.name):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return {pid: words for pid, words in found.items() if pid != self.process.pid}

    def close(self):
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.communicate()
        (FOLDER / "boxes" / self.name).unlink()


class Bridge:
    """Boxes joined by cables (veth pairs) in a bridge."""

    def __init__(self, boxes):
        self.boxes = boxes
        run("ip", "link", "add", "lan", "type", "bridge")
        run("ip", "link", "set", "lan", "up")
        for box in boxes:
            run("ip", "link", "add", box.port, "type", "veth", "peer", "name", "eth0", "netns", box.process.pid)
            run("ip", "link", "set", box.port, "master", "lan", "up")
            box.plug_in()

    def cut(self, box):
        run("ip", "link", "set", box.port, "down")

    def mend(self, box):
        run("ip", "link", "set", box.port, "up")

    def close(self):
        for device in [box.port for box in self.boxes] + ["lan"]:
            subprocess.run(["ip", "link", "del", device], check=False, capture_output=True)  # gone with its box, maybe


class Wire:
    """Boxes joined by a switch that brings every frame late and loses some (wire.py): many kernels lack netem."""

    def __init__(self, boxes, delay_ms, loss):
        ports = [f"{box.port}:{box.process.pid}" for box in boxes]
        file = pathlib.Path(__file__).with_name("wire.py")
        self.process = subprocess.Popen([sys.executable, "-B", file, str(delay_ms), str(loss), *ports], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "up\n":
            raise RuntimeError("the wire does not start")
        for box in boxes:
            box.plug_in()

    def close(self):
        """Frames that it has brought and lost."""
        counts = self.process.communicate(timeout=10)[0].split()
        return int(counts[0]), int(counts[1])
