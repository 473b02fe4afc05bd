#!/usr/bin/env python3
"""A single process that is interrupted or killed, and two jobs side by side: nothing is left, no result is torn.

usage: interrupt_faults_test.py FLEXGEN-DIST
"""
import os
import signal
import subprocess

import fault_case
from fault_case import FaultCase, Job, main, wait_until

INTERRUPTED = 130


class InterruptTest(FaultCase):
    def end_by(self, number, words=None):
        job = Job(self, words or self.long_words())
        self.started(job, 3)
        job.process.send_signal(number)
        code = job.wait(10)
        self.assertEqual(os.listdir(self.offload), [])
        self.assertGreaterEqual(len(self.results()), 3)
        return code, job.text()

    def test_sigint_and_sigterm(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            code, text = self.end_by(number)
            self.assertEqual(code, INTERRUPTED, text)
            self.assertRegex(text, r"error: interrupted: \d+ of 4000 rows are done; the same command goes on from there\n")
            self.output.unlink()

    def test_an_interrupt_before_the_end_of_the_input_is_known(self):
        more_than_are_read_ahead = self.rows(20000, prompt="x", max_tokens=60, stop=None)
        code, text = self.end_by(signal.SIGINT, self.words(more_than_are_read_ahead))
        self.assertEqual(code, INTERRUPTED, text)
        self.assertRegex(text, r"error: interrupted: \d+ rows are done; how many there are is not known, as the input was not "
                               r"read to its end; the same command goes on from there\n")

    def test_an_output_that_nothing_was_written_to_does_not_stay(self):
        """The job still reads its rows: its output has been taken, no more."""
        for before in (None, "precious\n"):
            if before:
                self.output.write_text(before)
            process = subprocess.Popen([fault_case.PROGRAM, *map(str, self.words("-", "--overwrite"))],
                                       stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self.folder)
            with process:
                process.stdin.write(b'{"prompt": "a"}\n' * 20000)  # what the input is shows in its first 256 KiB
                process.stdin.flush()
                taken = wait_until(lambda: any(os.path.realpath(f"/proc/{process.pid}/fd/{n}") == str(self.output)
                                               for n in os.listdir(f"/proc/{process.pid}/fd")))
                process.send_signal(signal.SIGTERM)
            self.assertTrue(taken)
            self.assertEqual(process.returncode, INTERRUPTED)
            self.assertEqual(self.output.read_text() if self.output.exists() else None, before)

    def test_sigkill_leaves_nothing_and_tears_no_line(self):
        code, _ = self.end_by(signal.SIGKILL)
        self.assertEqual(code, -signal.SIGKILL)

    def test_an_ignored_signal_stays_ignored(self):
        """nohup and the background jobs of a script ignore SIGINT."""
        rows = self.rows(300, max_tokens=60, stop=None)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            job = Job(self, self.words(rows))
        finally:
            signal.signal(signal.SIGINT, before)
        self.started(job)
        job.process.send_signal(signal.SIGINT)
        self.assertRaises(subprocess.TimeoutExpired, job.wait, 0.3)
        job.process.terminate()
        self.assertEqual(job.wait(10), INTERRUPTED)


class SideBySideTest(FaultCase):
    def test_two_jobs_in_one_offload_dir(self):
        rows = self.rows(24)
        self.expect(0, self.words(rows))
        alone = self.results()
        outputs = [self.folder / "first.jsonl", self.folder / "second.jsonl"]
        jobs = [Job(self, self.words(rows, output=output)) for output in outputs]
        for job, output in zip(jobs, outputs):
            self.assertEqual(job.wait(), 0, job.text())
            self.assertEqual(self.results(output), alone)
        self.assertEqual(os.listdir(self.offload), [])

    def test_a_killed_job_does_not_disturb_its_neighbour(self):
        rows = self.rows(24)
        other = self.folder / "other.jsonl"
        job = Job(self, self.words(rows, output=other))
        victim = Job(self, self.long_words())
        self.started(victim)
        victim.process.kill()
        self.assertEqual(job.wait(), 0, job.text())
        self.assertEqual(len(self.results(other)), 24)
        victim.wait()
        self.assertEqual(os.listdir(self.offload), [])


if __name__ == "__main__":
    main()
