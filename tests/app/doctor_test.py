#!/usr/bin/env python3
"""`flexgen-dist doctor` as a user runs it: alone, on two and four ranks, and where something is wrong.

usage: doctor_test.py PROGRAM
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MPIRUN = ROOT / "launch" / "mpirun.sh"
DEMO_MODEL = ROOT / "configs" / "demo-model"
PROGRAM = ""


class DoctorCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="flexgen-doctor-")
        self.addCleanup(folder.cleanup)
        self.place = pathlib.Path(folder.name)
        self.scratch = self.place / "scratch"
        self.scratch.mkdir()

    def doctor(self, *options):
        return [PROGRAM, "doctor", "--device", "cpu", "--offload-dir", str(self.scratch), *options]

    def run_it(self, command, code, **environment):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60,
                              env={**os.environ, **environment}, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(list(self.scratch.iterdir()), [], "nothing is left behind")
        return done

    def changed_model(self):
        model = self.place / "model"
        shutil.copytree(DEMO_MODEL, model)
        with open(model / "model.safetensors", "r+b") as weights:
            weights.seek(-1, os.SEEK_END)
            last = weights.read(1)[0]
            weights.seek(-1, os.SEEK_END)
            weights.write(bytes([last ^ 1]))
        return model

    def test_alone(self):
        report = self.place / "report.json"
        output = self.place / "answers.jsonl"
        done = self.run_it(self.doctor("--model", DEMO_MODEL, "--output", output, "--report", report), 0)
        self.assertIn("verdict: ready", done.stdout)
        self.assertFalse(output.exists())
        told = json.loads(report.read_text())
        names = [check["name"] for check in told["checks"]]
        self.assertEqual(names, ["program", "ranks", "machine", "gpu", "disk", "output", "model", "network"])
        self.assertEqual(told["exit_code"], 0)
        self.assertGreater(told["ranks"][0]["disk"]["read_bytes_per_second"], 1e6)
        self.assertEqual(told["ranks"][0]["output"]["lock"], "flock")
        self.assertIn("model.safetensors", [file["name"] for file in told["ranks"][0]["model"]["files"]])
        for name in names:
            self.assertIn(name, told["ranks"][0]["seconds"], "every check says how long it took")
        # A report replaces an older one, and nothing else.
        self.run_it(self.doctor("--report", report), 0)
        output.write_text("precious\n")
        self.run_it(self.doctor("--report", output), 6)
        self.assertEqual(output.read_text(), "precious\n")

    def test_without_a_model(self):
        done = self.run_it(self.doctor(), 0)
        self.assertRegex(done.stdout, r"model +ok .*not looked at: give --model")
        quiet = self.run_it(self.doctor("--quiet", "--report", "-"), 0)
        self.assertEqual(json.loads(quiet.stdout)["schema_version"], 1)

    def test_four_ranks(self):
        report = self.place / "report.json"
        done = self.run_it([MPIRUN, "-n", 4, *self.doctor("--model", DEMO_MODEL, "--report", report)], 0)
        self.assertIn("verdict: ready", done.stdout)
        self.assertEqual(done.stdout.count("verdict"), 1)
        told = json.loads(report.read_text())
        self.assertEqual([(link["from"], link["to"]) for link in told["links"]], [(0, 1), (1, 2), (2, 3), (3, 0)])
        for link in told["links"]:
            self.assertTrue(link["same_machine"])
            self.assertGreater(min(link["bytes_per_second"], link["bytes_per_second_back"]), 1e6)
        self.assertEqual([clock["rank"] for clock in told["clocks"]], [1, 2, 3])
        for clock in told["clocks"]:
            self.assertLess(abs(clock["offset_seconds"]), 0.5, "they have one clock")
        measured = [rank["disk"]["read_bytes_per_second"] > 0 for rank in told["ranks"]]
        self.assertEqual(measured, [True, False, False, False], "one rank of a machine measures its disk")

    def test_another_model_on_one_rank(self):
        report = self.place / "report.json"
        done = self.run_it([MPIRUN, "-n", 1, *self.doctor("--model", DEMO_MODEL, "--report", report),
                            ":", "-n", 1, *self.doctor("--model", self.changed_model())], 3)
        self.assertRegex(done.stdout, r"fault: +rank 1 on \S+: has another model in .* than rank 0 on \S+: "
                                      r"'model.safetensors' has another content")
        self.assertIn("not ready: 1 fault", done.stdout)
        told = json.loads(report.read_text())
        faults = [(check["name"], finding["ranks"]) for check in told["checks"] for finding in check["findings"]
                  if finding["level"] == "fault"]
        self.assertEqual(faults, [("model", [1])])
        self.assertEqual(told["exit_code"], 3)

    def test_a_model_that_one_rank_lacks(self):
        done = self.run_it([MPIRUN, "-n", 1, *self.doctor("--model", DEMO_MODEL),
                            ":", "-n", 1, *self.doctor("--model", self.place / "nowhere")], 3)
        self.assertRegex(done.stdout, r"fault: +rank 1 on ")
        self.assertIn("links", done.stdout, "the other checks go on")
        done = self.run_it([MPIRUN, "-n", 1, *self.doctor("--model", DEMO_MODEL), ":", "-n", 1, *self.doctor()], 2)
        self.assertRegex(done.stdout, r"fault: +rank 1 on .*--model")

    def test_files_that_cannot_be_made(self):
        (self.place / "file").write_text("")
        done = self.run_it(self.doctor("--offload-dir", self.place / "file"), 6)
        self.assertRegex(done.stdout, r"disk +fault")
        self.run_it(self.doctor("--output", self.place / "missing" / "answers.jsonl"), 6)

    def test_processes_that_do_not_know_each_other(self):
        step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}
        self.assertIn("srun --mpi=pmix", self.run_it(self.doctor(), 5, **step).stderr)
        self.assertIn("started 4 processes", self.run_it(self.doctor(), 5, PMI_SIZE="4").stderr)
        batch = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}
        self.assertRegex(self.run_it(self.doctor(), 0, **batch).stdout, "warning: .*Slurm job of 4 tasks")


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
