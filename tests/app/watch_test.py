#!/usr/bin/env python3
"""What one sees of a job while it runs: the line on a terminal, plain lines elsewhere, metrics over HTTP.

usage: watch_test.py PROGRAM
"""
import fcntl
import os
import pathlib
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEMO_MODEL = ROOT / "configs" / "demo-model"
DEMO_ROWS = ROOT / "configs" / "demo-rows" / "rows.jsonl"
PATIENCE_S = 60
USAGE = 2


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class WatchTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flexgen-watch-"))
        self.jobs = []

    def tearDown(self):
        for job in self.jobs:
            if job.poll() is None:
                job.kill()
            job.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def words(self, num_rows, *more):
        rows = self.folder / "rows.jsonl"
        with open(DEMO_ROWS, encoding="utf-8") as source:
            rows.write_text("".join(line for _, line in zip(range(num_rows), source)), encoding="utf-8")
        return [PROGRAM, "generate", "--model", str(DEMO_MODEL), "--input", str(rows), "--output",
                str(self.folder / "out.jsonl"), "--overwrite", "--percent", "0", "50", "0", "50", "0", "50",
                "--gpu-batch-size", "4", "--num-gpu-batches", "2", *more]

    def start(self, words, ranks=1, **how):
        launcher = [] if ranks == 1 else [str(ROOT / "launch" / "mpirun.sh"), "-n", str(ranks)]
        variables = dict(os.environ, OMP_NUM_THREADS="1", **how.pop("env", {}))
        self.jobs.append(subprocess.Popen(launcher + words, stdin=subprocess.DEVNULL, env=variables, **how))
        return self.jobs[-1]

    def seen_on_terminal(self, num_rows, columns, *more, term="xterm", narrow_to=None):
        """All that a job writes to a terminal of that width, which may become narrower on the way."""
        ours, theirs = pty.openpty()

        def set_width(width):
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

        set_width(columns)
        job = self.start(self.words(num_rows, *more), stdout=subprocess.DEVNULL, stderr=theirs, env={"TERM": term})
        seen, end = b"", time.monotonic() + PATIENCE_S
        while job.poll() is None or select.select([ours], [], [], 0.05)[0]:
            self.assertLess(time.monotonic(), end)
            if select.select([ours], [], [], 0.05)[0]:
                seen += os.read(ours, 65536)
            if narrow_to and seen.count(b"\r") > 8:
                set_width(narrow_to)
                narrow_to = None
        os.close(ours)
        os.close(theirs)
        self.assertEqual(job.returncode, 0, seen)
        return seen.decode()

    def test_a_terminal_has_one_line_that_lives(self):
        seen = self.seen_on_terminal(400, 120)
        lines = re.findall(r"\r(rows [^\r\n\x1b]*)\x1b\[K", seen)
        self.assertGreater(len(lines), 4, seen)
        for line in lines:
            self.assertLess(len(line), 120)
        self.assertRegex("\n".join(lines), r"rows \d+/400  tokens/s [\d.]+ now, [\d.]+ overall  eta \d+:\d\d  "
                                           r"(busiest|bound by) \w+ \d+ %")
        self.assertRegex(lines[-1], r"^rows 400/400  tokens/s [\d.]+  time \d+:\d\d$")
        self.assertEqual(len(re.findall(r"rows \d+/400[^\r]*\x1b\[K\r\n", seen)), 1, "one line stays")
        self.assertNotRegex(seen, r"\x1b\[[\d;]*m", "no colours, whatever NO_COLOR says")

    def test_a_narrow_terminal_has_a_short_line(self):
        seen = self.seen_on_terminal(400, 120, "--log-level", "warn", narrow_to=34)
        lines = re.findall(r"\r(rows [^\r\n\x1b]*)\x1b\[[KJ]", seen)
        self.assertTrue(any(len(line) > 60 for line in lines), seen)
        self.assertLess(max(map(len, lines[-2:])), 34, seen)

    def test_a_dumb_terminal_has_plain_lines(self):
        seen = self.seen_on_terminal(40, 120, term="dumb")
        self.assertNotIn("\x1b", seen)
        self.assertRegex(seen, r"\nrows 40/40  tokens/s [\d.]+  time \d+:\d\d\r\n")

    def test_quiet_says_nothing(self):
        self.assertEqual(self.seen_on_terminal(40, 120, "--quiet"), "")

    def scrape(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
            self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            text = answer.read().decode()
        series = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                series[name] = float(value)
        return series

    def series_until_the_end(self, job, port):
        """All that was scraped while the job ran."""
        found = []
        while job.poll() is None:
            try:
                found.append(self.scrape(port))
            except (urllib.error.URLError, ConnectionError):
                pass  # not there yet, or not any more
            time.sleep(0.05)
        return found

    def test_metrics_while_a_job_runs(self):
        for ranks in (1, 2):
            port = free_port()
            job = self.start(self.words(400, "--metrics-port", str(port)), ranks=ranks, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
            found = self.series_until_the_end(job, port)
            self.assertEqual(job.returncode, 0)
            self.assertGreater(len(found), 5)
            for earlier, later in zip(found, found[1:]):
                for name in earlier:
                    if "_total" in name:
                        self.assertGreaterEqual(later[name], earlier[name], name)
            self.assertTrue(any(one['flexgen_job_phase{phase="running"}'] for one in found))
            last = found[-1]
            self.assertEqual(last["flexgen_ranks"], ranks)
            self.assertEqual(last["flexgen_input_rows"], 400)
            self.assertGreater(last['flexgen_rows_total{result="ok"}'], 0)
            self.assertGreater(last["flexgen_sweeps_total"], 0)
            self.assertGreater(last['flexgen_resource_busy_seconds_total{rank="0",resource="compute"}'], 0)
            self.assertGreater(last['flexgen_tier_peak_bytes{rank="0",tier="dram"}'], 0)
            with self.assertRaises(urllib.error.URLError, msg="it ends with the job"):
                self.scrape(port)

    def test_a_port_that_is_taken_ends_the_job_before_it_loads(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for ranks in (1, 2):
                job = self.start(self.words(4, "--metrics-port", str(port)), ranks=ranks, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE)
                text = job.communicate(timeout=PATIENCE_S)[1].decode()
                self.assertEqual(job.returncode, USAGE, text)
                self.assertIn(f"cannot serve metrics on 127.0.0.1:{port}", text)
                self.assertIn("Address already in use", text)
                self.assertNotIn("loading", text)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)
