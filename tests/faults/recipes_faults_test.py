#!/usr/bin/env python3
"""The recipes of launch/recipes with small jobs: under tmux and systemd where they are here, under a stand-in for Slurm.

usage: recipes_faults_test.py FLEXGEN-DIST
"""
import os
import shutil
import signal
import subprocess
import unittest

import fault_case
from fault_case import ROOT, FaultCase, main, wait_until

RECIPES = ROOT / "launch" / "recipes"
INTERRUPTED = 130


class RecipeCase(FaultCase):
    def stand_in(self, name, script):
        (self.folder / "bin").mkdir(exist_ok=True)
        file = self.folder / "bin" / name
        file.write_text("#!/bin/bash\n" + script)
        file.chmod(0o755)
        return file

    def environment(self, **more):
        return dict(os.environ, OMP_NUM_THREADS="1", PATH=f"{self.folder / 'bin'}:{os.environ['PATH']}", **more)

    def command(self, *words):
        return [fault_case.PROGRAM, *map(str, words)]

    def num_lines(self):
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0


class SyntaxTest(unittest.TestCase):
    def test_every_script_can_be_read(self):
        scripts = [*RECIPES.iterdir(), *(ROOT / "launch").glob("*.sh"), *(ROOT / "launch" / "mpirun").iterdir(),
                   *(ROOT / "launch" / "cluster").iterdir()]
        self.assertGreater(len(scripts), 5)
        for script in scripts:
            done = subprocess.run(["bash", "-n", script], check=False, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not here")
    def test_shellcheck_finds_nothing(self):
        done = subprocess.run(["shellcheck", "--severity=warning", "-x", "launch/mpirun.sh", "launch/cluster.sh",
                               *(ROOT / "launch" / "cluster").iterdir(), *RECIPES.iterdir()], check=False, cwd=ROOT,
                              capture_output=True, text=True)
        self.assertEqual(done.stdout, "")

    def test_usage(self):
        for name in ("tmux.sh", "systemd-run.sh", "slurm.sbatch", "srun.sh"):
            done = subprocess.run([RECIPES / name], check=False, capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, name)
            self.assertIn("generate" if name != "slurm.sbatch" else "program", done.stderr)


class TmuxTest(RecipeCase):
    @unittest.skipUnless(shutil.which("tmux"), "tmux is not here")
    def test_a_job_in_a_session(self):
        rows = self.rows(20)
        environment = self.environment(TMUX_TMPDIR=str(self.folder))
        environment.pop("TMUX", None)
        log = self.folder / "a night.log"
        try:
            subprocess.run([RECIPES / "tmux.sh", "a night", *self.command(*self.words(rows))], check=True, cwd=self.folder,
                           env=environment, capture_output=True)
            self.assertTrue(wait_until(lambda: log.exists() and "exit code" in log.read_text()))
            self.assertTrue(log.read_text().endswith("exit code 0\n"), log.read_text())
            self.assertEqual(len(self.results()), 20)
            self.output.unlink()
            subprocess.run([RECIPES / "tmux.sh", "a night", *self.command(*self.long_words("--restart"))], check=True,
                           cwd=self.folder, env=environment, capture_output=True)
            self.assertTrue(wait_until(self.num_lines))
            subprocess.run(["tmux", "send-keys", "-t", "a night", "C-c"], check=True, env=environment)
            self.assertTrue(wait_until(lambda: log.read_text().endswith(f"exit code {INTERRUPTED}\n")), log.read_text())
        finally:
            subprocess.run(["tmux", "kill-server"], check=False, env=environment, capture_output=True)


class SystemdTest(RecipeCase):
    def test_what_systemd_is_asked_for(self):
        self.stand_in("systemd-run", 'printf "%s\\n" "$@" >asked\n')
        subprocess.run([RECIPES / "systemd-run.sh", "night", "env", "a b"], check=True, cwd=self.folder,
                       env=self.environment(FLEXGEN_END_GRACE_S="9"))
        asked = (self.folder / "asked").read_text().splitlines()
        for word in ("--unit=night", "--property=KillMode=mixed", "--property=RestartPreventExitStatus=1 2 3 4 6 130",
                     "--setenv=FLEXGEN_END_GRACE_S=9", "--same-dir"):
            self.assertIn(word, asked)
        self.assertEqual(asked[-3:], ["--", shutil.which("env"), "a b"])

    @unittest.skipUnless(shutil.which("systemctl") and subprocess.run(
        ["systemctl", "--user", "show-environment"], check=False, capture_output=True).returncode == 0,
        "no systemd runs for this user")
    def test_a_job_as_a_service(self):
        unit = f"flexgen-test-{os.getpid()}"
        subprocess.run([RECIPES / "systemd-run.sh", unit, *self.command(*self.words(self.rows(20)))], check=True,
                       cwd=self.folder, env=self.environment())
        try:
            self.assertTrue(wait_until(lambda: self.num_lines() == 20))
        finally:
            subprocess.run(["systemctl", "--user", "stop", unit], check=False, capture_output=True)


class SlurmTest(RecipeCase):
    def start(self, words, launcher='exec "$@"', **variables):
        self.stand_in("scontrol", f'echo "$*" >>"{self.folder}/requeued"\n')
        environment = self.environment(MPIRUN=str(self.stand_in("launcher", launcher)), SLURM_SUBMIT_DIR=str(ROOT),
                                       SLURM_JOB_ID="7", **variables)
        return subprocess.Popen([RECIPES / "slurm.sbatch", *self.command(*words)], env=environment, text=True,
                                stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def requeued(self):
        file = self.folder / "requeued"
        return file.read_text().splitlines() if file.exists() else []

    def test_a_job_that_needs_more_than_its_time(self):
        rows = self.rows(400, max_tokens=40, stop=None)
        words = self.words(rows, "--dtype", "float32")
        for restart in range(2):
            done = self.num_lines()
            process = self.start(words, SLURM_RESTART_COUNT=str(restart))
            self.assertTrue(wait_until(lambda: self.num_lines() > done or process.poll() is not None))
            process.send_signal(signal.SIGUSR1)
            said = process.communicate(timeout=30)[1]
            self.assertEqual(process.returncode, 0, said)
            self.assertEqual(self.requeued(), ["requeue 7"] * (restart + 1), said)
        process = self.start(words)
        said = process.communicate(timeout=60)[1]
        self.assertEqual((process.returncode, len(self.requeued())), (0, 2), said)
        self.assertEqual(len(self.results()), 400)

    def test_srun_instead_of_mpirun(self):
        """Two ranks; the end of the time lets the sweep under way end, and the job goes back to the queue."""
        self.stand_in("srun", f'''while [[ $1 == --* ]]; do echo "$1" >>"{self.folder}/asked"; shift; done
exec mpirun --oversubscribe -n 2 "$@"''')
        words = self.words(self.rows(400, max_tokens=40, stop=None), "--dtype", "float32")
        launcher = {"FLEXGEN_LAUNCHER": "launch/recipes/srun.sh --ntasks=2", "TMPDIR": str(self.folder),
                    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        process = self.start(words, **launcher)
        self.assertTrue(wait_until(lambda: self.num_lines() or process.poll() is not None))
        process.send_signal(signal.SIGUSR1)
        said = process.communicate(timeout=60)[1]
        self.assertEqual((process.returncode, self.requeued()), (0, ["requeue 7"]), said)
        self.assertIn("the sweep under way is the last one", said)
        self.assertTrue(0 < len(self.results()) < 400)
        self.assertEqual((self.folder / "asked").read_text().split(), ["--mpi=pmix", "--kill-on-bad-exit=1", "--ntasks=2"])
        self.assertEqual(list(self.folder.glob("flexgen-srun-*")), [])
        process = self.start(words, **launcher)
        said = process.communicate(timeout=60)[1]
        self.assertEqual((process.returncode, len(self.results())), (0, 400), said)

    def test_a_job_that_is_cancelled_stays_away(self):
        process = self.start(self.long_words())
        self.assertTrue(wait_until(self.num_lines))
        process.terminate()
        process.communicate(timeout=30)
        self.assertEqual((process.returncode, self.requeued()), (INTERRUPTED, []))

    def test_which_ends_go_back_to_the_queue(self):
        self.stand_in("sleep", "exit 0\n")  # between the starts
        for code, count, is_requeued in [(2, "0", False), (6, "0", False), (5, "0", True), (137, "3", True), (5, "20", False)]:
            before = len(self.requeued())
            process = self.start(["job"], f"exit {code}\n", SLURM_RESTART_COUNT=count)
            process.communicate(timeout=30)
            self.assertEqual(len(self.requeued()) - before, int(is_requeued), code)
            self.assertEqual(process.returncode, 0 if is_requeued else code)


if __name__ == "__main__":
    main()
