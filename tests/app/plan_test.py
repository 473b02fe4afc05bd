#!/usr/bin/env python3
"""`flexgen-dist plan` as a user has it: for machines that are not here, and what it says run by hand on two ranks.

usage: plan_test.py PROGRAM
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MPIRUN = ROOT / "launch" / "mpirun.sh"
DEMO_MODEL = ROOT / "configs" / "demo-model"
T4 = ROOT / "configs" / "clusters" / "t4-n1.json"
PROGRAM = ""


class PlanCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="flexgen-plan-")
        self.addCleanup(folder.cleanup)
        self.place = pathlib.Path(folder.name)

    def run_it(self, *words, code=0):
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.place)}
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, env=environment, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def plan(self, *options, code=0):
        report = self.place / "plan.json"
        done = self.run_it(PROGRAM, "plan", "--report", report, *options, code=code)
        return json.loads(report.read_text()), done.stdout


class ElsewhereTest(PlanCase):
    def test_the_flags_are_a_plan_of_the_same_time(self):
        told, text = self.plan("--model", "opt-6.7b", "--profiles", T4, "--num-rows", 64)
        best = told["ways"][0]
        flags = best["ranks"][0]["flags"]
        self.assertIn(flags, text)
        # The report is replaced by the next one.
        again, _ = self.plan("--model", "opt-6.7b", "--profiles", T4, "--num-rows", 64, "--explain", *flags.split())
        self.assertEqual(again["explained"][0]["flags"], flags)
        self.assertAlmostEqual(again["explained"][0]["way"][0]["seconds"], best["seconds"], delta=1e-6 * best["seconds"])

    def test_slices_stand_among_the_flags(self):
        told, text = self.plan("--model", "opt-1.3b", "--profiles", f"{T4}*2", "--num-rows", 64, "--slices", "10,14")
        self.assertEqual([rank["num_decoder_layers"] for rank in told["ways"][0]["ranks"]], [10, 14])
        self.assertIn("--slices 10,14", text)

    def test_another_command_s_report_is_left_alone(self):
        (self.place / "plan.json").write_text('{"schema_version": 1, "program": "flexgen-dist", "throughput": {}}')
        done = self.run_it(PROGRAM, "plan", "--model", "opt-125m", "--profiles", T4, "--report", self.place / "plan.json", code=6)
        self.assertIn("is no plan of flexgen-dist", done.stderr)


class OnTwoRanksTest(PlanCase):
    """What is saved, and slices by hand: the same texts as one rank makes."""

    def texts(self, ranks, *options):
        output = self.place / "out.jsonl"
        words = [*([MPIRUN, "-n", ranks] if ranks > 1 else []), PROGRAM, "generate", "--device", "cpu", "--dtype", "float32",
                 "--model", DEMO_MODEL, "--input", self.place / "rows.jsonl", "--output", output, "--overwrite",
                 "--offload-dir", self.place, "--gpu-batch-size", "4", *options]
        done = self.run_it(*words)
        results = [json.loads(line) for line in output.read_text().splitlines()]
        return {result["custom_id"]: result["text"] for result in results}, done.stderr

    def test_by_hand(self):
        rows = [{"custom_id": str(i), "prompt": f"Count to {i}:", "max_tokens": 6} for i in range(12)]
        (self.place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        alone, _ = self.texts(1, "--percent", "100", "0", "100", "0", "100", "0")
        saved = self.place / "placements.json"
        saved.write_text(json.dumps({"slices": [3, 5], "ranks": [{"percent": [100, 0, 40, 60, 100, 0]},
                                                                  {"percent": [20, 50, 100, 0, 0, 100]}]}))
        apart, said = self.texts(2, "--percent", saved)
        self.assertEqual(apart, alone)
        self.assertIn("layers 0 .. 2", said)
        self.assertIn("layers 3 .. 7", said)
        sliced, said = self.texts(2, "--percent", "50", "50", "50", "50", "100", "0", "--slices", "6,2")
        self.assertEqual(sliced, alone)
        self.assertIn("layers 0 .. 5", said)

    def test_what_a_plan_saves(self):
        rows = [{"custom_id": str(i), "prompt": f"Count to {i}:", "max_tokens": 6} for i in range(12)]
        (self.place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        profile = self.place / "profile.json"
        self.run_it(PROGRAM, "profile", "--device", "cpu", "--quick", "--offload-dir", self.place, "--output", profile)
        links = json.loads(profile.read_text())
        links["links"] = [{"transport": "mpi", "from": 0, "to": 1, "same_machine": True, "latency_seconds": 1e-5,
                           "rates": [{"chunk_bytes": 1048576, "bytes_per_second": 1e9}]}]
        profile.write_text(json.dumps(links))
        saved = self.place / "placements.json"
        self.run_it(MPIRUN, "-n", 2, PROGRAM, "plan", "--device", "cpu", "--model", DEMO_MODEL, "--input",
                    self.place / "rows.jsonl", "--profile", profile, "--dtype", "float32", "--save", saved)
        self.assertEqual(sum(json.loads(saved.read_text())["slices"]), 8)
        alone, _ = self.texts(1, "--percent", "100", "0", "100", "0", "100", "0")
        planned, _ = self.texts(2, "--percent", saved)
        self.assertEqual(planned, alone)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
