#!/usr/bin/env python3
"""`flexgen-dist verify` as a user runs it, on the demo model: exact, rounded, compressed, on one rank and two.

usage: verify_test.py PROGRAM
"""
import json
import random

from command_case import DEMO_MODEL, DEMO_ROWS, CommandCase, main


class VerifyCase(CommandCase):
    def setUp(self):
        super().setUp()
        self.report = self.place / "report.json"

    def verify(self, *options, code=0, ranks=1, rows=DEMO_ROWS, quiet=True):
        self.done = self.run_it("verify", "--model", DEMO_MODEL, "--input", rows, "--device", "cpu", "--report", self.report,
                                *options, *(["--quiet"] if quiet else []), code=code, ranks=ranks)
        return json.loads(self.report.read_text()) if self.report.exists() else None

    def hard_rows(self, count):
        """Behind random tokens the model is unsure: rounding and codes change what it chooses."""
        draw = random.Random(3)
        return self.write_rows({"prompt": [draw.randrange(4, 4096) for _ in range(draw.randrange(2, 40))],
                                "max_tokens": 40, "ignore_eos": True} for _ in range(count))

    def assert_exact(self, report, num_rows):
        self.assertEqual(report["closeness"], "exact")
        self.assertTrue(report["passes"])
        self.assertEqual(report["rows"], num_rows)
        agreement, scores = report["comparison"]["agreement"], report["comparison"]["all"]
        self.assertEqual(agreement["equal_answers"], num_rows)
        self.assertGreater(agreement["tokens"], num_rows)
        self.assertGreater(scores["tokens"], agreement["tokens"])
        self.assertEqual((scores["largest_difference"], scores["other_choices"]), (0, 0), "the same bits")
        self.assertEqual(scores["reference_perplexity"], scores["policy_perplexity"])

    def test_float32_is_exact_wherever_things_lie(self):
        for ranks in (1, 2):
            report = self.verify("--dtype", "float32", "--percent", "20", "40", "0", "50", "0", "100",
                                 "--gpu-batch-size", "3", "--num-gpu-batches", "2", "--token-budget", "33",
                                 ranks=ranks, rows=self.hard_rows(16))
            self.assertEqual(report["ranks"], ranks)
            self.assert_exact(report, 16)
            self.assertIn("--percent 20 40 0 50 0 100", report["policy"]["flags"])
            self.assertNotIn("--percent 20 40", report["reference"]["flags"])

    def test_sixteen_bits_differ_by_ties_alone(self):
        rows = self.hard_rows(40)
        for dtype, largest in (("float16", 0.05), ("bfloat16", 0.5)):
            report = self.verify("--dtype", dtype, "--rows", 40, rows=rows)
            self.assertEqual(report["closeness"], "rounded")
            self.assertEqual(report["reference"]["dtype"], "float32")
            self.assertEqual(report["policy"]["dtype"], dtype)
            self.assertEqual(report["reasons"], [])
            agreement = report["comparison"]["agreement"]
            self.assertEqual(agreement["ties"], len(agreement["differences"]))
            self.assertTrue(dtype == "float16" or agreement["differences"], "there is a tie to be told")
            self.assertLess(0, report["comparison"]["all"]["largest_difference"])
            self.assertLess(report["comparison"]["all"]["largest_difference"], largest)

    def test_compression_has_a_cost_that_may_be_limited(self):
        words = ["--dtype", "float32", "--compress-weight", "--compress-cache", "--rows", 24, "--seed", 5]
        for ranks in (1, 2):
            report = self.verify(*words, ranks=ranks, quiet=False)
            self.assertEqual(report["closeness"], "lossy")
            self.assertTrue(report["passes"])
            self.assertIn("--compress-cache", report["policy"]["flags"])
            self.assertNotIn("--compress", report["reference"]["flags"])
            scores = report["comparison"]["prompts"]
            increase = 100 * (scores["policy_perplexity"] / scores["reference_perplexity"] - 1)
            self.assertTrue(0 < increase < 5, increase)
            self.assertGreater(scores["other_choices"], 0.01)
            self.assertIn("verdict     pass", self.done.stdout)
        report = self.verify(*words, "--max-perplexity-increase", "0.001", code=1)
        self.assertFalse(report["passes"])
        self.assertIn("the perplexity rises", self.done.stderr)
        eight = self.verify("--dtype", "float32", "--compress-weight", "--weight-bits", 8, "--rows", 24, "--seed", 5)
        self.assertLess(eight["comparison"]["all"]["mean_difference"], scores["mean_difference"] / 4)

    def test_sparse_attention_is_seen_in_tokens(self):
        report = self.verify("--dtype", "float32", "--attn-sparsity", "0.2")
        self.assertEqual(report["closeness"], "lossy")
        self.assertTrue(report["comparison"]["agreement"]["differences"])
        self.assertIn("without sparse attention", report["notes"][0])

    def test_a_reference_without_room_for_float32_says_so(self):
        budgets = ["--gpu-mem", "20MiB", "--cpu-mem", "1MiB", "--disk-mem", "4KiB"]
        report = self.verify("--dtype", "bfloat16", "--rows", 4, *budgets)
        self.assertEqual((report["reference"]["dtype"], report["closeness"]), ("bfloat16", "rounded"))
        self.assertIn("float32 had no room", report["notes"][0])
        self.assertIn("float32 has no room", self.done.stderr)
        self.report.unlink()
        self.verify("--dtype", "float32", *budgets, code=4)

    def test_bad_rows_are_left_out(self):
        rows = self.write_rows([{"prompt": [99999]}, {"prompt": [2, 300, 17], "max_tokens": 3},
                                {"prompt": "Is it?", "choices": [" yes", " no"]}])
        report = self.verify("--dtype", "float32", rows=rows)
        self.assertEqual((report["rows"], report["sequences"], report["bad_rows"]), (2, 3, 1))
        self.assertEqual(report["comparison"]["agreement"]["answers"], 1)
        self.assertIn("1 row of --input cannot run", self.done.stderr)
        self.report.unlink()
        self.verify(code=6, rows=self.write_rows([]))
        self.assertIn("no row that this model can run", self.done.stderr)

    def test_what_cannot_be_honoured_is_refused(self):
        for words, part in ((["--save-compressed", self.place / "m", "--compress-weight"], "--save-compressed"),
                            (["--attn-sparsity", "0.5", "--max-perplexity-increase", "1"], "cannot judge"),
                            (["--rows", 0], "--rows"), (["--seed", "-1"], "--seed"), (["--trace", "t"], "trace")):
            self.verify(*words, code=2)
            self.assertIn(part, self.done.stderr)
        self.report.write_text("precious\n")
        self.run_it("verify", "--model", DEMO_MODEL, "--input", DEMO_ROWS, "--report", self.report, code=6)
        self.assertEqual(self.report.read_text(), "precious\n")


if __name__ == "__main__":
    main(verbosity=2)
