"""What the fault tests share: a scratch folder, running the program, and looking at what a job leaves behind."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEMO_MODEL = ROOT / "configs" / "demo-model"
DEMO_ROWS = ROOT / "configs" / "demo-rows" / "rows.jsonl"
MPIRUN = ROOT / "launch" / "mpirun.sh"
THREE_TIERS = ["--percent", "20", "30", "20", "30", "20", "30", "--gpu-batch-size", "4", "--num-gpu-batches", "2"]
PATIENCE_S = 60  # for what takes a second on an idle machine




def alive(pid):
    """Runs or waits to run: a zombie that nobody collects does not count."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def descendants(pid):
    """Process ids of all that `pid` has started, itself and through others."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def children(pid):
    """Rank -> process id of the ranks that a launcher has started."""
    ranks = {}
    for process in descendants(pid):
        try:
            variables = pathlib.Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for variable in variables:
            for name in (b"OMPI_COMM_WORLD_RANK=", b"PMIX_RANK=", b"PMI_RANK="):
                if variable.startswith(name):
                    ranks[int(variable[len(name):])] = process
    return ranks


def wait_until(condition, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def copy_model(folder, leave_out=()):
    folder.mkdir()
    for file in DEMO_MODEL.iterdir():
        if file.name not in leave_out:
            shutil.copy(file, folder / file.name)
    return folder


def overwrite_tensor(file, name, element, row=None):
    """Fills one tensor of a safetensors file, or one row of it, with a two-byte element."""
    with open(file, "r+b") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        tensor = json.loads(stream.read(header_bytes))[name]
        begin, end = tensor["data_offsets"]
        if row is not None:
            row_bytes = (end - begin) // tensor["shape"][0]
            begin, end = begin + row * row_bytes, begin + (row + 1) * row_bytes
        stream.seek(8 + header_bytes + begin)
        stream.write(element * ((end - begin) // len(element)))


class Job:
    """The program, running; its output goes to a file."""

    def __init__(self, case, words, ranks=1, stdin=None, env=None, launcher_options=()):
        self.ranks = ranks
        self.log = case.folder / f"log-{len(case.jobs)}"
        launcher = [] if ranks == 1 else [str(MPIRUN), *launcher_options, "-n", str(ranks)]
        with open(self.log, "wb") as log, open(stdin or os.devnull, "rb") as source:
            self.process = subprocess.Popen(launcher + [PROGRAM] + [str(word) for word in words], stdin=source,
                                            stdout=log, stderr=log, cwd=case.folder, env=dict(os.environ, OMP_NUM_THREADS="1", **(env or {})))
        case.jobs.append(self)

    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds=PATIENCE_S):
        return self.process.wait(seconds)

    def pids(self):
        """Rank -> process id, once all ranks run."""
        if self.ranks == 1:
            return {0: self.process.pid}
        wait_until(lambda: len(children(self.process.pid)) == self.ranks)
        return children(self.process.pid)


class FaultCase(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flexgen-fault-"))
        self.offload = self.folder / "offload"
        self.offload.mkdir()
        self.output = self.folder / "out.jsonl"
        self.jobs = []

    def tearDown(self):
        for job in self.jobs:
            if job.process.poll() is None:
                for pid in descendants(job.process.pid):
                    os.kill(pid, signal.SIGKILL)
                job.process.kill()
                job.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def rows(self, count, **fields):
        """An input file of demo rows, each with `fields` besides."""
        file = self.folder / f"rows-{count}-{len(list(self.folder.iterdir()))}.jsonl"
        with open(DEMO_ROWS, encoding="utf-8") as source:
            lines = [json.loads(next(source)) for _ in range(min(count, 1000))]
        with open(file, "w", encoding="utf-8") as to:
            for i in range(count):
                row = dict(lines[i % len(lines)], custom_id=f"row-{i}", **fields)
                to.write(json.dumps(row) + "\n")
        return file

    def words(self, rows, *more, model=DEMO_MODEL, output=None, placement=THREE_TIERS):
        return ["generate", "--model", model, "--input", rows, "--output", output or self.output, "--device", "cpu",
                "--offload-dir", self.offload, *placement, *more]

    def long_words(self, *more, **named):
        """A job that would take minutes."""
        return self.words(self.rows(4000, max_tokens=60, stop=None), *more, **named)

    def run_job(self, words, ranks=1):
        job = Job(self, words, ranks)
        return job.wait(), job.text()

    def started(self, job, num_lines=1):
        """Waits until a job has written its first results."""
        done = wait_until(lambda: self.output.exists() and self.output.read_bytes().count(b"\n") >= num_lines
                          or job.process.poll() is not None)
        self.assertTrue(done and job.process.poll() is None, job.text())

    def expect(self, code, words, *parts, ranks=1):
        """Runs to the end: the exit code, and what the message has to say. Returns all that was printed."""
        found, text = self.run_job(words, ranks)
        self.assertEqual(found, code, text)
        for part in parts:
            self.assertIn(str(part), text)
        if code not in (0, 1):
            self.assertEqual(text.count("error: "), 1, text)
        self.assertEqual(os.listdir(self.offload), [])
        return text

    def results(self, file=None):
        """custom_id -> result; fails on anything but whole lines."""
        data = (file or self.output).read_bytes()
        self.assertTrue(data == b"" or data.endswith(b"\n"), data[-200:])
        lines = [json.loads(line) for line in data.splitlines()]
        self.assertEqual(len({line["custom_id"] for line in lines}), len(lines))
        return {line["custom_id"]: line for line in lines}

    def expect_gone(self, pids, seconds=10):
        self.assertTrue(wait_until(lambda: not any(alive(pid) for pid in pids), seconds), "a process is left")


def main():
    if len(sys.argv) < 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit(f"usage: {sys.argv[0]} FLEXGEN-DIST [unittest options]")
    global PROGRAM
    PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main(module="__main__", verbosity=1)


PROGRAM = ""
