#!/usr/bin/env python3
"""Three ranks, one of which is stopped: the job ends soon, says which rank it was, and goes on when it is started again.

usage: hung_faults_test.py FLEXGEN-DIST
"""
import os
import signal
import socket
import time

from fault_case import FaultCase, Job, descendants, main, wait_until

COMMUNICATION = 5
TIMEOUT_S = 1
HOST = socket.gethostname()


class HungRankCase(FaultCase):
    def stop(self, victim, job):
        pids = job.pids()
        started = {job.process.pid} | descendants(job.process.pid)
        os.kill(pids[victim], signal.SIGSTOP)
        begin = time.monotonic()
        self.assertEqual(job.wait(TIMEOUT_S + 10), COMMUNICATION, job.text())
        self.assertGreater(time.monotonic() - begin, TIMEOUT_S / 2)
        self.expect_gone(started)
        self.assertEqual(os.listdir(self.offload), [])
        self.assertIn(f"rank {victim} on {HOST} has not answered for {TIMEOUT_S} s", job.text())
        self.assertEqual(job.text().count("has not answered"), 1, job.text())

    def timed_words(self, rows, *more, **named):
        return self.words(rows, "--rank-timeout", TIMEOUT_S, "--dtype", "float32", *more, **named)


class StoppedInTheRunTest(HungRankCase):
    def test_each_rank(self):
        rows = self.rows(300, max_tokens=20, stop=None)
        whole = self.folder / "whole.jsonl"
        self.expect(0, self.timed_words(rows, output=whole))
        for victim in (0, 1, 2):
            job = Job(self, self.timed_words(rows), ranks=3)
            done = len(self.results()) if self.output.exists() else 0
            wait_until(lambda: self.output.exists() and self.output.read_bytes().count(b"\n") > done)
            self.stop(victim, job)
            self.assertGreater(len(self.results()), done)
        text = self.expect(0, self.timed_words(rows), ranks=2)
        self.assertEqual(self.results(), self.results(whole), text)


class StoppedInLoadingTest(HungRankCase):
    def test_first_and_last(self):
        rows = self.rows(30)
        for victim in (0, 2):
            job = Job(self, self.timed_words(rows), ranks=3)
            wait_until(lambda: "loading" in job.text())
            self.stop(victim, job)
        self.expect(0, self.timed_words(rows), ranks=3)
        self.assertEqual(len(self.results()), 30)


class KilledAtTheStartTest(HungRankCase):
    """mpirun (Open MPI 4.1) may hang then; launch/mpirun.sh ends it."""

    def test_each_moment(self):
        words = self.timed_words(self.rows(4000, max_tokens=20, stop=None))
        for delay_ms in (0, 20, 60, 100, 200):
            with self.subTest(delay_ms=delay_ms):
                job = Job(self, words, ranks=3)
                pids = job.pids()
                started = {job.process.pid} | descendants(job.process.pid)
                time.sleep(delay_ms / 1000)
                os.kill(pids[2], signal.SIGKILL)
                self.assertNotEqual(job.wait(30), 0, job.text())
                self.expect_gone(started)


class BusyMachineTest(HungRankCase):
    def test_a_machine_that_is_busy_is_not_lost(self):
        """More processes than processors, and ranks that the system leaves waiting."""
        burning = [Job(self, self.long_words(output=self.folder / f"other-{i}.jsonl")) for i in range(4)]
        self.expect(0, self.words(self.rows(24), "--rank-timeout", 1), ranks=3)
        self.assertEqual([job.process.poll() for job in burning], [None] * 4)


if __name__ == "__main__":
    main()
