#!/usr/bin/env python3
"""Three ranks: one is killed, the launcher is interrupted or killed, set-up fails. The job ends everywhere, soon.

usage: ranks_faults_test.py FLEXGEN-DIST
"""
import os
import signal
import socket
import subprocess
import time

from fault_case import DEMO_MODEL, MPIRUN, FaultCase, Job, descendants, main

USAGE, MODEL, DOES_NOT_FIT, COMMUNICATION, INTERRUPTED = 2, 3, 4, 5, 130


class LostRankTest(FaultCase):
    def start(self):
        job = Job(self, self.long_words(), ranks=3)
        pids = job.pids()
        self.assertEqual(sorted(pids), [0, 1, 2], job.text())
        self.started(job)
        return job, pids

    def expect_end(self, job, pids):
        """Ends within 10 s with a code of its own; no process, no scratch file, no torn line is left."""
        code = job.wait(10)
        self.assertNotEqual(code, 0, job.text())
        self.expect_gone(pids.values())
        self.assertEqual(os.listdir(self.offload), [])
        self.assertGreaterEqual(len(self.results()), 1)
        return code

    def test_a_killed_rank(self):
        for victim in (0, 1):
            with self.subTest(rank=victim):
                job, pids = self.start()
                begin = time.monotonic()
                os.kill(pids[victim], signal.SIGKILL)
                self.assertEqual(self.expect_end(job, pids), COMMUNICATION, job.text())
                self.assertLess(time.monotonic() - begin, 10)
                self.assertIn(f"rank {victim}", job.text())
                self.assertIn(socket.gethostname().split(".")[0], job.text())
                self.output.unlink()

    def test_an_interrupted_launcher(self):
        """mpirun itself would say 1: some rows failed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                job, pids = self.start()
                started = descendants(job.process.pid)
                job.process.send_signal(number)
                self.assertEqual(self.expect_end(job, pids), INTERRUPTED, job.text())
                self.expect_gone(started)
                self.output.unlink()

    def test_an_interrupted_rank(self):
        job, pids = self.start()
        os.kill(pids[1], signal.SIGTERM)
        self.assertEqual(self.expect_end(job, pids), INTERRUPTED, job.text())

    def test_a_killed_launcher(self):
        job, pids = self.start()
        started = descendants(job.process.pid)
        job.process.kill()
        self.expect_end(job, pids)
        self.expect_gone(started)


class LauncherTest(FaultCase):
    """launch/mpirun.sh around a stand-in for mpirun."""

    def stand_in(self, script):
        launcher = self.folder / "launcher"
        launcher.write_text("#!/bin/sh\n" + script)
        launcher.chmod(0o755)
        return str(launcher)

    def launch(self, script, **more):
        return subprocess.Popen([str(MPIRUN)], env=dict(os.environ, MPIRUN=self.stand_in(script)), text=True,
                                cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)

    def test_exit_codes_pass_through(self):
        for code in (0, 1, 2, 3, 4, 5, 6, 70, 130, 255):
            process = self.launch(f"exit {code}\n")
            process.communicate()
            self.assertEqual(process.returncode, code)

    def test_input_reaches_the_job(self):
        self.assertEqual(self.launch("cat\n").communicate("rows\n")[0], "rows\n")

    def test_streams_that_are_closed(self):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            done = subprocess.run(f"exec {closed}; '{MPIRUN}'", shell=True, check=False, capture_output=True,
                                  env=dict(os.environ, MPIRUN=self.stand_in("touch ran\nexit 7\n")), cwd=self.folder)
            self.assertEqual(done.returncode, 7, closed)
            (self.folder / "ran").unlink()

    def test_signals_are_forwarded_once(self):
        for name in ("INT", "TERM"):
            process = self.launch(f"trap 'echo {name}; again=$((again + 1)); [ $again = 2 ] && exit 9' {name}\n"
                                  "again=0; echo ready\nfor i in 1 2 3 4 5; do sleep 0.1; done\nexit 1\n",
                                  start_new_session=True)
            self.assertEqual(process.stdout.readline(), "ready\n")
            os.killpg(process.pid, getattr(signal, "SIG" + name))  # as a terminal does
            self.assertEqual(process.communicate()[0], name + "\n")
            self.assertEqual(process.returncode, INTERRUPTED)

    def test_a_job_that_ends_well_in_spite_of_a_signal_has_ended_well(self):
        process = self.launch("trap 'exit 0' INT\necho ready\nwhile :; do sleep 0.05; done\n")
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGINT)
        process.communicate()
        self.assertEqual(process.returncode, 0)

    def test_no_job_outlives_a_launcher_that_is_killed(self):
        process = self.launch("echo $$\nexec sleep 60\n")
        job = int(process.stdout.readline())
        process.kill()
        process.communicate()
        self.expect_gone([job])


class SetUpTest(FaultCase):
    def test_all_ranks_agree_on_one_message(self):
        self.expect(USAGE, self.words(self.rows(1), "--nonsense"), "nonsense", ranks=3)
        self.expect(MODEL, self.words(self.rows(1), model="nowhere"), "nowhere", ranks=3)
        self.expect(DOES_NOT_FIT, self.words(self.rows(1), "--gpu-mem", "13500KiB", "--dtype", "float32"), "gpu needs",
                    "nearest", ranks=3)

    def test_more_ranks_than_layers(self):
        self.expect(USAGE, ["bench", "--model", DEMO_MODEL, "--dummy", "--device", "cpu", "--offload-dir", self.offload],
                    "8 layers into 9", "at most 8 ranks", ranks=9)

    def test_three_ranks_give_what_one_gives(self):
        rows = self.rows(12)
        self.expect(0, self.words(rows))
        alone = self.results()
        self.expect(0, self.words(rows, "--overwrite"), ranks=3)
        self.assertEqual(self.results(), alone)


if __name__ == "__main__":
    main()
