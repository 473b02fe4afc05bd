#!/usr/bin/env python3
"""launch/mpirun.sh starts a job again, on fewer hosts if it may, and ends one that its launcher does not end.

Hosts that die are played by a stand-in for mpirun; where a real one is needed, all hosts are this machine.

usage: launcher_faults_test.py FLEXGEN-DIST
"""
import os
import signal
import subprocess
import time

from fault_case import MPIRUN, FaultCase, Job, descendants, main, wait_until

INTERRUPTED, COMMUNICATION = 130, 5
LOST = "mpirun noticed that process rank 1 with PID 77 on node {} exited on signal 9 (Killed)."


class StandInCase(FaultCase):
    def program(self, name, text):
        file = self.folder / name
        file.write_text("#!/bin/bash\n" + text)
        file.chmod(0o755)
        return str(file)

    def launch(self, script, *words, hosts_down=()):
        """Runs launch/mpirun.sh around a stand-in that first notes its arguments in the file `runs`."""
        ssh = "\n".join(f'[[ " $* " == *" {host} "* ]] && exit 255' for host in hosts_down) + "\nexit 0\n"
        variables = dict(os.environ, FLEXGEN_SSH=self.program("ssh", ssh), FLEXGEN_END_GRACE_S="1",
                         MPIRUN=self.program("launcher", f'echo "$*" >>runs; n=$(wc -l <runs)\n{script}\n'))
        (self.folder / "runs").write_text("")
        return subprocess.Popen([str(MPIRUN), *map(str, words)], env=variables, text=True, cwd=self.folder,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def outcome(self, *arguments, **named):
        """Exit code, what was started and what was said."""
        process = self.launch(*arguments, **named)
        said = process.communicate(timeout=60)[1]
        return process.returncode, (self.folder / "runs").read_text().splitlines(), said


class RetryTest(StandInCase):
    def test_what_is_worth_another_run(self):
        for code, num_runs in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (6, 1), (126, 1), (130, 1), (5, 3), (70, 3), (139, 3),
                               (255, 3), (137, 3)]:
            found, runs, said = self.outcome(f"exit {code}", "--retries", 2, "--retry-pause", 0, "-n", 2, "job")
            self.assertEqual((found, len(runs)), (5 if code == 137 else code, num_runs), said)  # a rank that was killed is lost
            self.assertEqual(set(runs), {"-n 2 job"})
            self.assertEqual(said.count("is started again"), num_runs - 1)

    def test_a_job_that_ends_well_the_second_time(self):
        code, runs, said = self.outcome("((n == 1)) && exit 5; echo good >&2", "--retries", 9, "--retry-pause", 0, "job")
        self.assertEqual((code, len(runs)), (0, 2), said)
        self.assertIn("good\n", said)

    def test_reached_by_a_link(self):
        link = self.folder / "flexgen-mpirun"
        link.symlink_to(MPIRUN)
        done = subprocess.run([link, "job"], check=False, cwd=self.folder,
                              env=dict(os.environ, MPIRUN=self.program("launcher", "exit 9\n")))
        self.assertEqual(done.returncode, 9)

    def test_without_the_option_nothing_is_started_again(self):
        self.assertEqual(self.outcome("exit 5", "job")[:2], (5, ["job"]))

    def test_an_interrupt_in_the_run_and_in_the_pause(self):
        for script, pause in [("trap 'exit 5' TERM; echo go; while :; do sleep 0.05; done", 0), ("echo go; exit 5", 60)]:
            process = self.launch(script, "--retries", 3, "--retry-pause", pause, "job")
            self.assertEqual(process.stdout.readline(), "go\n")
            if pause:
                self.assertIn("is started again", process.stderr.readline())
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
            self.assertEqual(process.returncode, INTERRUPTED)
            self.assertEqual((self.folder / "runs").read_text(), "job\n")

    def test_options_that_cannot_be_read(self):
        for words, part in [(["--retries"], "takes a number"), (["--retries", "x", "job"], "not 'x'"),
                            (["--allow-fewer-ranks", "-n", "2", "job"], "needs --retries")]:
            code, runs, said = self.outcome("exit 0", *words)
            self.assertEqual((code, runs), (2, []), said)
            self.assertIn(part, said)


class FewerRanksTest(StandInCase):
    OPTIONS = ["--retries", 5, "--retry-pause", 0, "--allow-fewer-ranks"]

    def lose(self, host, times=9):
        return f"((n <= {times})) && {{ echo '{LOST.format(host)}' >&2; exit 137; }}; exit 0"

    def test_a_host_that_loses_a_rank_twice_is_left_out(self):
        code, runs, said = self.outcome(self.lose("b.cluster", 2), *self.OPTIONS, "--host", "a:2,b:4,c:2", "-n", 7,
                                        "-x", "NAME", "job", "-n", 3)
        self.assertEqual(code, 0, said)
        self.assertEqual(runs, ["--host a:2,b:4,c:2 -n 7 -x NAME job -n 3"] * 2 + ["--host a:2,c:2 -n 3 -x NAME job -n 3"])
        self.assertIn("b has lost a rank 2 times: the job goes on without it", said)

    def test_a_rank_that_did_not_answer_counts(self):
        message = "error: rank 0 on a ends the job of 2: rank 1 on c has not answered for 60 s (--rank-timeout)"
        _, runs, said = self.outcome(f"((n > 2)) && exit 0; echo '{message}' >&2; exit 5", *self.OPTIONS, "-H", "a,c", "-np",
                                     2, "job")
        self.assertEqual(runs[-1], "--host a:1 -n 1 job", said)

    def test_a_host_that_cannot_be_reached_is_left_out_at_once(self):
        hostfile = self.folder / "hosts"
        hostfile.write_text("# two boxes\na slots=4\n\nb slots=4 max_slots=8  # the old one\n")
        code, runs, said = self.outcome("((n == 1)) && exit 1; exit 0", *self.OPTIONS, "--hostfile", hostfile, "-n", 6,
                                        "job", hosts_down=["b"])
        self.assertEqual((code, runs[1:]), (0, ["--host a:4 -n 4 job"]), said)
        self.assertIn("b cannot be reached", said)

    def test_more_ranks_than_slots(self):
        _, runs, said = self.outcome("((n == 1)) && exit 255; exit 0", *self.OPTIONS, "--host", "a,b", "-n", 5, "job",
                                     hosts_down=["a"])
        self.assertEqual(runs[1:], ["--host b:1 -n 3 job"], said)

    def test_rows_that_failed_are_no_lost_host(self):
        self.assertEqual(len(self.outcome("exit 1", *self.OPTIONS, "--host", "a,b", "-n", 2, "job")[1]), 1)

    def test_too_few_ranks(self):
        code, runs, said = self.outcome("exit 5", *self.OPTIONS, "--min-ranks", 3, "--host", "a:2,b:2", "-n", 4, "job",
                                        hosts_down=["b"])
        self.assertEqual((code, len(runs)), (5, 1), said)
        self.assertIn("2 ranks are left of 4, fewer than --min-ranks 3", said)

    def test_arguments_that_cannot_be_read(self):
        (self.folder / "hosts").write_text("a\n")
        for words, part in [(["-n", "2", "job"], "needs hosts"), (["--host", "a,b", "job"], "needs the number of ranks"),
                            (["--host", "a", "-n", "2"], "no program"), (["--hostfile", "none", "-n", "2", "job"], "'none'"),
                            (["--hostfile", "hosts", "-n", "2", "job"], "slots=N"),
                            (["--map-by", "node", "--host", "a", "-n", "2", "job"], "--map-by"),
                            (["--host", "a", "-n", "2", "job", ":", "-n", "1", "job"], "one program"),
                            (["--host", "a:x", "-n", "2", "job"], "'a:x'")]:
            code, runs, said = self.outcome("exit 0", *self.OPTIONS, *words)
            self.assertEqual((code, runs), (2, []), said)
            self.assertIn(part, said)


class HangingLauncherTest(StandInCase):
    RANKS = 'for rank in 0 1 2; do OMPI_COMM_WORLD_RANK=$rank sleep {} & done'

    def test_ranks_that_wait_for_a_dead_one(self):
        """As Open MPI's mpirun does when a rank is killed while MPI starts."""
        process = self.launch(f"{self.RANKS.format(60)}\necho $!\nwait", "-n", 3, "job")
        last = int(process.stdout.readline())
        started = descendants(process.pid)
        time.sleep(1.5)  # it has been seen with three ranks
        os.kill(last, signal.SIGKILL)
        said = process.communicate(timeout=20)[1]
        self.assertEqual(process.returncode, COMMUNICATION, said)
        self.assertIn("1 of 3 ranks have ended", said)
        self.expect_gone(started)

    def test_a_launcher_without_ranks(self):
        process = self.launch(f"{self.RANKS.format(1.5)}\ntrap '' TERM INT\nexec sleep 60", "-n", 3, "job")
        said = process.communicate(timeout=20)[1]
        self.assertEqual(process.returncode, COMMUNICATION, said)
        self.assertIn("3 of 3 ranks have ended", said)

    def test_ranks_that_end_together_are_left_alone(self):
        code, _, said = self.outcome(f"{self.RANKS.format(1.5)}\nwait\nexit 0", "-n", 3, "job")
        self.assertEqual((code, said), (0, ""))


class WholeJobTest(FaultCase):
    def test_a_job_that_loses_ranks_goes_on_by_itself(self):
        """One rank is stopped, another is killed; the third start ends with every row once."""
        rows, whole = self.rows(150, max_tokens=20, stop=None), self.folder / "whole.jsonl"
        words = lambda output: self.words(rows, "--dtype", "float32", "--rank-timeout", 1, output=output)
        self.expect(0, words(whole))
        job = Job(self, words(self.output), ranks=3, launcher_options=["--retries", "3", "--retry-pause", "0", "--host", "localhost:4"])
        done = 0
        for attempt, (victim, number) in enumerate([(1, signal.SIGSTOP), (2, signal.SIGKILL)]):
            moves_on = lambda: job.text().count("loading") > attempt and self.output.exists() and len(
                self.output.read_bytes().splitlines()) > done
            self.assertTrue(wait_until(moves_on), job.text())
            os.kill(job.pids()[victim], number)
            self.assertTrue(wait_until(lambda: job.text().count("is started again") > attempt), job.text())
            done = len(self.results())
        started = descendants(job.process.pid)
        self.assertEqual(job.wait(), 0, job.text())
        self.expect_gone(started)
        self.assertEqual(self.results(), self.results(whole))


if __name__ == "__main__":
    main()
