#!/usr/bin/env python3
"""Rows and files that are wrong: a bad row costs itself alone, a bad file ends the job with exit code 6.

usage: files_faults_test.py FLEXGEN-DIST
"""
import json
import os

from fault_case import FaultCase, Job, copy_model, main, overwrite_tensor

ROWS_FAILED, MODEL, FILE = 1, 3, 6


class RowsTest(FaultCase):
    def test_bad_rows_cost_themselves_alone(self):
        rows = self.rows(4)
        good = rows.read_text(encoding="utf-8").splitlines()
        bad = ['{"custom_id": "torn", "prompt": ', '{"custom_id": "ids", "prompt": [5, 4096]}', '[1]',
               json.dumps({"custom_id": "long", "prompt": "yes " * 3000}),
               '{"custom_id": "sampled", "prompt": "x", "temperature": 1.0}', '{"custom_id": "row-0", "prompt": "again"}']
        mixed = [line for pair in zip(bad, good + good) for line in pair][:2 * len(good)] + bad[len(good):]
        rows.write_text("\n".join(mixed) + "\n", encoding="utf-8")
        self.expect(ROWS_FAILED, self.words(rows), "6 of 10 rows failed")
        results = self.results()
        self.assertEqual(len(results), 10)
        failed = {name for name, result in results.items() if "error" in result}
        self.assertEqual(len(failed), 6)
        self.assertTrue({"ids", "long", "sampled"} <= failed)

        rows.write_text("\n".join(good) + "\n", encoding="utf-8")
        alone = self.folder / "alone.jsonl"
        self.expect(0, self.words(rows, output=alone))
        for name, result in self.results(alone).items():
            self.assertEqual(results[name], result)

    def test_only_bad_rows(self):
        rows = self.folder / "bad.jsonl"
        rows.write_text('{"custom_id": "a"}\n{"custom_id": "b"}\n')
        self.expect(ROWS_FAILED, self.words(rows), "2 of 2 rows failed")
        self.assertEqual(set(self.results()), {"a", "b"})

    def test_no_rows(self):
        rows = self.folder / "none.jsonl"
        rows.write_text("\n\n")
        self.expect(0, self.words(rows))
        self.assertEqual(self.results(), {})


class FilesTest(FaultCase):
    def under_a_file(self):
        """A path that not even root can make."""
        file = self.folder / "plain-file"
        file.touch()
        return file / "below"

    def test_no_input(self):
        self.expect(FILE, self.words(self.folder / "none.jsonl"), "none.jsonl", "No such file")
        self.expect(FILE, self.words(self.folder), "it is a folder")

    def test_files_are_looked_at_before_a_model_is_compressed(self):
        new = self.folder / "new"
        compress = ["--compress-weight", "--save-compressed", new]
        self.expect(FILE, self.words(self.folder / "none.jsonl", *compress), "none.jsonl", "No such file")
        self.expect(FILE, self.words(self.rows(1), *compress, output=self.under_a_file()), "plain-file")
        self.assertFalse(new.exists())

    def test_output_that_cannot_be_made(self):
        self.expect(FILE, self.words(self.rows(1), output=self.under_a_file()), "plain-file")
        self.expect(FILE, self.words(self.rows(1), output=self.folder), str(self.folder))

    def test_output_that_exists(self):
        self.output.write_text("precious\n")
        self.expect(FILE, self.words(self.rows(1)), "out.jsonl")
        self.assertEqual(self.output.read_text(), "precious\n")
        self.expect(0, self.words(self.rows(1), "--overwrite"))
        self.assertEqual(set(self.results()), {"row-0"})

    def test_output_that_another_job_writes(self):
        first = Job(self, self.long_words())
        self.started(first)
        self.expect(FILE, self.words(self.rows(1), "--overwrite"), "another process is writing")
        first.process.kill()
        first.wait()
        self.assertGreaterEqual(len(self.results()), 1)

    def test_full_disk(self):
        self.expect(FILE, self.words(self.rows(2), output="/dev/full"), "No space left on device", "0 finished rows are safe")

    def test_full_disk_under_three_ranks(self):
        text = self.expect(FILE, self.words(self.rows(2), output="/dev/full"), "No space left on device", ranks=3)
        self.assertIn("rank 0 on ", text)

    def test_offload_dir_that_cannot_be_made(self):
        words = self.words(self.rows(1), placement=["--percent", "0", "0", "0", "0", "0", "0"])
        words[words.index(self.offload)] = self.under_a_file()
        self.expect(FILE, words, "plain-file")

    def test_report_and_trace_that_cannot_be_written(self):
        """Noticed before the job has cost anything."""
        for flag in ("--report", "--trace"):
            for path in (self.under_a_file(), self.folder):
                self.expect(FILE, self.words(self.rows(1), flag, path), path, flag)
                self.assertFalse(self.output.exists())

    def test_folders_of_report_and_trace_are_made(self):
        report, trace = self.folder / "new" / "report.json", self.folder / "newer" / "still" / "trace.json"
        self.expect(0, self.words(self.rows(1), "--report", report, "--trace", trace))
        self.assertEqual(json.loads(report.read_text())["job"]["rows"], 1)
        self.assertTrue(json.loads(trace.read_text())["traceEvents"])

    def test_offload_dir_is_made(self):
        words = self.words(self.rows(1))
        fresh = self.folder / "a" / "b"
        words[words.index(self.offload)] = fresh
        self.expect(0, words)
        self.assertEqual(os.listdir(fresh), [])


class NumbersTest(FaultCase):
    def test_a_checkpoint_of_nans_is_named_as_such(self):
        model = copy_model(self.folder / "nan")
        overwrite_tensor(model / "model.safetensors", "model.decoder.final_layer_norm.weight", b"\x00\x7e")
        self.expect(MODEL, self.words(self.rows(3), model=model), "not a number")
        text = self.expect(MODEL, self.words(self.rows(3), "--overwrite", model=model), "not a number", ranks=3)
        self.assertEqual(text.count("not a number"), 1, text)
        self.assertIn("rank 0 on ", text)


if __name__ == "__main__":
    main()
