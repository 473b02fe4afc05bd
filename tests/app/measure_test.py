#!/usr/bin/env python3
"""A job without policy flags on a machine that nobody has measured: it measures, keeps the profile and plans by it.

usage: measure_test.py PROGRAM
"""
import json

from command_case import DEMO_MODEL, CommandCase, main


class MeasureCase(CommandCase):
    def setUp(self):
        super().setUp()
        self.rows = self.write_rows({"custom_id": str(i), "prompt": f"The {i}th word", "max_tokens": 3} for i in range(8))

    def generate(self, *options, ranks=1, cache=None):
        """Texts by row, and what was said."""
        output = self.place / "out.jsonl"
        done = self.run_it("generate", "--device", "cpu", "--dtype", "float32", "--model", DEMO_MODEL, "--input", self.rows,
                           "--output", output, "--overwrite", "--offload-dir", self.place, *options, ranks=ranks,
                           XDG_CACHE_HOME=str(cache or self.place / "cache"))
        return self.texts(output), done.stderr

    def profiles(self):
        return sorted((self.place / "cache").rglob("profile-*.json"))

    def test_a_small_job_does_not_wait_for_it(self):
        _, said = self.generate()
        self.assertEqual(self.profiles(), [])
        self.assertNotIn("measured", said)

    def test_it_is_kept_and_planned_by(self):
        texts, said = self.generate("--measure", "always")
        self.assertIn("measured", said)
        self.assertIn("roofline    at most", said)
        [kept] = self.profiles()
        profile = json.loads(kept.read_text())
        self.assertTrue(profile["quick"])
        self.assertGreater(profile["capacity"]["dram_bytes"], 0)
        written = kept.stat().st_mtime_ns
        again, said = self.generate("--measure", "auto")
        self.assertEqual(again, texts)
        self.assertNotIn("measured", said)
        self.assertEqual(kept.stat().st_mtime_ns, written)

    def test_ranks_of_a_machine_share_it(self):
        alone, _ = self.generate("--measure", "never")
        texts, said = self.generate("--measure", "always", ranks=2)
        self.assertEqual(texts, alone)
        self.assertEqual(said.count("measuring it quickly"), 1)
        [kept] = self.profiles()
        self.assertEqual(len(json.loads(kept.read_text())["links"]), 1)

    def test_a_place_that_cannot_be_written_to(self):
        in_the_way = self.place / "file"
        in_the_way.write_text("")
        _, said = self.generate("--measure", "always", cache=in_the_way)
        self.assertIn("is not kept", said)
        self.assertIn("by as measured for this job", said)


if __name__ == "__main__":
    main()
