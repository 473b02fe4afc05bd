#!/usr/bin/env python3
"""`flexgen-dist plan` as a user has it: for machines that are not here, and what it says run by hand on two ranks.

usage: plan_test.py PROGRAM
"""
import json

from command_case import DEMO_MODEL, ROOT, CommandCase, main

T4 = ROOT / "configs" / "clusters" / "t4-n1.json"


class PlanCase(CommandCase):
    def plan(self, *options, code=0):
        report = self.place / "plan.json"
        done = self.run_it("plan", "--report", report, *options, code=code)
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
        done = self.run_it("plan", "--model", "opt-125m", "--profiles", T4, "--report", self.place / "plan.json", code=6)
        self.assertIn("is no plan of flexgen-dist", done.stderr)


class OnTwoRanksTest(PlanCase):
    """What is saved, and slices by hand: the same texts as one rank makes."""

    def setUp(self):
        super().setUp()
        self.rows = self.write_rows({"custom_id": str(i), "prompt": f"Count to {i}:", "max_tokens": 6} for i in range(12))

    def generate(self, ranks, *options):
        output = self.place / "out.jsonl"
        done = self.run_it("generate", "--device", "cpu", "--dtype", "float32", "--model", DEMO_MODEL, "--input", self.rows,
                           "--output", output, "--overwrite", "--offload-dir", self.place, "--gpu-batch-size", 4, *options,
                           ranks=ranks)
        return self.texts(output), done.stderr

    def test_by_hand(self):
        alone, _ = self.generate(1, "--percent", "100", "0", "100", "0", "100", "0")
        saved = self.place / "placements.json"
        saved.write_text(json.dumps({"slices": [3, 5], "ranks": [{"percent": [100, 0, 40, 60, 100, 0]},
                                                                  {"percent": [20, 50, 100, 0, 0, 100]}]}))
        apart, said = self.generate(2, "--percent", saved)
        self.assertEqual(apart, alone)
        self.assertIn("layers 0 .. 2", said)
        self.assertIn("layers 3 .. 7", said)
        sliced, said = self.generate(2, "--percent", "50", "50", "50", "50", "100", "0", "--slices", "6,2")
        self.assertEqual(sliced, alone)
        self.assertIn("layers 0 .. 5", said)

    def test_what_a_plan_saves(self):
        profile = self.place / "profile.json"
        self.run_it("profile", "--device", "cpu", "--quick", "--offload-dir", self.place, "--output", profile)
        links = json.loads(profile.read_text())
        links["links"] = [{"transport": "mpi", "from": 0, "to": 1, "same_machine": True, "latency_seconds": 1e-5,
                           "rates": [{"chunk_bytes": 1048576, "bytes_per_second": 1e9}]}]
        profile.write_text(json.dumps(links))
        saved = self.place / "placements.json"
        self.run_it("plan", "--device", "cpu", "--model", DEMO_MODEL, "--input", self.rows, "--profile", profile, "--dtype",
                    "float32", "--save", saved, ranks=2)
        self.assertEqual(sum(json.loads(saved.read_text())["slices"]), 8)
        alone, _ = self.generate(1, "--percent", "100", "0", "100", "0", "100", "0")
        planned, _ = self.generate(2, "--percent", saved)
        self.assertEqual(planned, alone)


if __name__ == "__main__":
    main()
