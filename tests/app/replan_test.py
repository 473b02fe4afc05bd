#!/usr/bin/env python3
"""A job whose machine's profile is wrong: it says so, and with --replan goes by what it measures. Tokens stay the same.

usage: replan_test.py PROGRAM
"""
import json
import socket

from command_case import DEMO_MODEL, DEMO_ROWS, CommandCase, main

USAGE = 2
NUM_ROWS = 200
DEMO_HIDDEN = 256



def profile(operations_per_second):
    """Of this machine: memory so fast that arithmetic alone counts."""
    return {
        "schema_version": 1, "program": "test", "host": socket.gethostname(), "measured_at": "2026-01-01T00:00:00Z",
        "quick": True,
        "memory": {"num_processors": 1, "read": [{"num_threads": 1, "bytes_per_second": 1e12}],
                   "copy": [{"num_threads": 1, "bytes_per_second": 1e12}],
                   "matrix": [{"dtype": "float32", "rows": 256, "size": DEMO_HIDDEN,
                               "operations_per_second": operations_per_second}]},
        "links": []}


class ReplanTest(CommandCase):
    def setUp(self):
        super().setUp()
        self.profile = self.place / "profile.json"
        self.rows = self.place / "rows.jsonl"
        with open(DEMO_ROWS, encoding="utf-8") as source:
            self.rows.write_text("".join(line for _, line in zip(range(NUM_ROWS), source)), encoding="utf-8")

    def run_job(self, *more, ranks=1, expected=0):
        """What it wrote, its report, and what it said."""
        output, report = self.place / "out.jsonl", self.place / "report.json"
        done = self.run_it("generate", "--model", DEMO_MODEL, "--input", self.rows, "--output", output, "--overwrite",
                           "--preserve-order", "--device", "cpu", "--dtype", "float32", "--percent", 100, 0, 100, 0, 100, 0,
                           "--gpu-batch-size", 4, "--num-gpu-batches", 2, "--report", report, *more, code=expected,
                           ranks=ranks, OMP_NUM_THREADS="1")
        if expected:
            return None, None, done.stderr
        return output.read_text(encoding="utf-8"), json.loads(report.read_text(encoding="utf-8")), done.stderr

    def keep(self, value):
        self.profile.write_text(json.dumps(value), encoding="utf-8")

    def rate(self):
        return json.loads(self.profile.read_text(encoding="utf-8"))["memory"]["matrix"][0]["operations_per_second"]

    def test_the_ceiling_that_is_wrong_is_named_and_corrected(self):
        plain, report, _ = self.run_job()
        self.assertIsNone(report["predicted"])
        self.assertEqual(report["plan_check"], [])

        self.keep(profile(1e8))  # some hundred times too slow
        tokens, report, said = self.run_job("--profile", str(self.profile), "--replan")
        self.assertEqual(tokens, plain)
        check = report["plan_check"][0]
        self.assertEqual(check["wrong_ceiling"], "matrix")
        self.assertGreater(check["predicted_seconds"], 4 * check["measured_seconds"])
        self.assertEqual(check["profile_rate"], 1e8)
        self.assertIn("matrix came to", said)
        self.assertIn("is corrected", check["correction"])
        self.assertLessEqual(check["replanned_tokens"], check["planned_tokens"])
        corrected = self.rate()
        self.assertAlmostEqual(corrected / check["measured_rate"], 1, places=6)
        noted = json.loads(self.profile.read_text(encoding="utf-8"))["corrected"]
        self.assertEqual([one["ceiling"] for one in noted], ["matrix"])

        # Now it is about right; eight times of it is not, and without --replan the file stays as it is.
        self.keep(profile(8 * corrected))
        tokens, report, said = self.run_job("--profile", str(self.profile))
        self.assertEqual(tokens, plain)
        check = report["plan_check"][0]
        self.assertEqual(check["wrong_ceiling"], "matrix")
        self.assertLess(check["measured_rate"], 4 * corrected)
        self.assertGreater(check["measured_seconds"], check["predicted_seconds"])
        self.assertGreater(report["predicted"]["tokens_per_second"], report["throughput"]["tokens_per_second"])
        self.assertEqual(check["correction"], "")
        self.assertEqual(self.rate(), 8 * corrected)

    def test_every_rank_judges_its_own_stage(self):
        plain, _, _ = self.run_job(ranks=2)
        self.keep(profile(1e8))
        tokens, report, said = self.run_job("--profile", str(self.profile), "--replan", ranks=2)
        self.assertEqual(tokens, plain)
        self.assertEqual([one["rank"] for one in report["plan_check"]], [0, 1])
        self.assertEqual([one["wrong_ceiling"] for one in report["plan_check"]], ["matrix", "matrix"])
        for rank in (0, 1):
            self.assertIn(f"rank {rank}'s first", said)
        self.assertGreater(self.rate(), 1e8)
        self.assertEqual(report["plan_check"][1]["correction"], "", "one rank of a machine writes its file")

    def test_a_file_of_other_machines_stays_as_it_is(self):
        self.keep(dict(profile(1e8), sources=["a data sheet"]))
        before = self.profile.read_text(encoding="utf-8")
        _, report, _ = self.run_job("--profile", str(self.profile), "--replan")
        self.assertIn("stays as it is", report["plan_check"][0]["correction"])
        self.assertEqual(self.profile.read_text(encoding="utf-8"), before)

    def test_without_a_profile_there_is_nothing_to_go_by(self):
        _, _, said = self.run_job("--replan", expected=USAGE)
        self.assertIn("--replan cannot be honoured", said)


if __name__ == "__main__":
    main()
