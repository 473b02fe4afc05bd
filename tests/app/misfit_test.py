#!/usr/bin/env python3
"""What the program offers in the place of a policy that does not fit runs when it is pasted, and its tokens are the same.

usage: misfit_test.py PROGRAM
"""
import random
import re

from command_case import DEMO_MODEL, DEMO_ROWS, CommandCase, main

DOES_NOT_FIT = 4


class MisfitCase(CommandCase):
    def setUp(self):
        super().setUp()
        self.rows = self.place / "rows.jsonl"
        self.rows.write_text("".join(DEMO_ROWS.read_text().splitlines(keepends=True)[:6]))

    def generate(self, ranks, *words):
        output = self.place / "out.jsonl"
        done = self.outcome("generate", "--model", DEMO_MODEL, "--input", self.rows, "--output", output, "--overwrite",
                            "--device", "cpu", "--offload-dir", self.place, "--gen-len", 5, "--quiet", *words, ranks=ranks)
        return done.returncode, done.stderr, self.texts(output) if done.returncode == 0 else None

    def draw_policy(self, draw):
        percent = [draw.choice([(100, 0), (0, 100), (0, 0), (33.33333, 66.66667), (50, 20)]) for _ in range(3)]
        words = ["--gpu-batch-size", draw.choice([1, 4, 64]), "--num-gpu-batches", draw.choice([1, 3])]
        words += ["--percent", *(number for pair in percent for number in pair)]
        if percent[1][0] + percent[1][1] == 100 and draw.random() < 0.6:
            words.append("--cpu-cache-compute")
        if draw.random() < 0.3:
            words += ["--sep-layer", draw.choice(["true", "false"])]
        return words

    def test_what_is_offered_runs(self):
        code, message, expected = self.generate(1, "--dtype", "float32")
        self.assertEqual(code, 0, message)
        self.assertEqual(len(expected), 6)
        draw = random.Random(4)
        num_offers = num_of_ranks = 0
        for case in range(40):
            ranks = 2 if case % 5 == 4 else 1
            dram = draw.choice([draw.randrange(1, 40), draw.randrange(82, 120)])  # with and without staging for ssd
            budgets = ["--gpu-mem", f"{draw.randrange(6, 40)}MiB", "--cpu-mem", f"{dram}MiB",
                       "--disk-mem", draw.choice(["0", "8MiB", "1GiB"])]
            code, message, answers = self.generate(ranks, "--dtype", "float32", *budgets, *self.draw_policy(draw))
            offer = re.search(r"The nearest one that fits: (--percent .*)", message)
            if offer:
                self.assertEqual(code, DOES_NOT_FIT, message)
                num_offers += 1
                num_of_ranks += ranks - 1
                code, message, answers = self.generate(ranks, *budgets, *offer.group(1).split())
                self.assertEqual(code, 0, offer.group(0) + "\n" + message)
            if code == 0:
                self.assertEqual(answers, expected, message)
            else:
                self.assertEqual(code, DOES_NOT_FIT, message)
                self.assertIn("not even one row", message)
            if num_offers == 12:
                break
        self.assertEqual(num_offers, 12)
        self.assertGreater(num_of_ranks, 0)


if __name__ == "__main__":
    main(verbosity=2)
