#!/usr/bin/env python3
"""Rows and files that are wrong: a bad row costs itself alone, a bad file ends the job with exit code 6.

usage: files_faults_test.py FLEXGEN-DIST
"""
import json
import os
import subprocess

import fault_case
from fault_case import DEMO_MODEL, THREE_TIERS, FaultCase, Job, copy_model, main, overwrite_tensor

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

    def test_report_and_trace_are_replaced_by_their_like(self):
        report, trace = self.folder / "report.json", self.folder / "trace.json"
        for rows in (1, 2):
            self.expect(0, self.words(self.rows(rows), "--overwrite", "--report", report, "--trace", trace))
            self.assertEqual(json.loads(report.read_text())["job"]["rows"], rows)
            self.assertTrue(json.loads(trace.read_text())["traceEvents"])
        self.expect(FILE, self.words(self.rows(1), "--overwrite", "--report", trace), "no report", trace)
        self.expect(FILE, self.words(self.rows(1), "--overwrite", "--trace", report), "no trace", report)

    def test_mistyped_folders_are_not_made(self):
        typo = self.folder / "typo"
        rows = self.rows(1)
        self.expect(FILE, self.words(rows, output=typo / "out.jsonl"), f"no folder '{typo}'")
        for flag in ("--report", "--trace"):
            self.expect(FILE, self.words(rows, flag, typo / "x"), f"no folder '{typo}'", flag)
        self.expect(FILE, self.words(rows, "--compress-weight", "--save-compressed", typo / "x"), f"no folder '{typo}'")
        words = self.words(rows)
        words[words.index(self.offload)] = typo / "x"
        self.expect(FILE, words, f"no folder '{typo}'", "--offload-dir")
        self.assertFalse(typo.exists())
        self.assertFalse(self.output.exists())

    def test_offload_dir_that_is_made_does_not_stay(self):
        fresh = self.folder / "fresh"
        for ranks in (1, 3):
            words = self.words(self.rows(1), "--overwrite")
            words[words.index(self.offload)] = fresh
            self.expect(0, words, ranks=ranks)
            self.assertFalse(fresh.exists())

    def test_without_offload_dir_scratch_files_go_to_tmpdir(self):
        place = self.folder / "place"
        place.mkdir()
        words = self.long_words()
        del words[words.index("--offload-dir"):words.index("--offload-dir") + 2]
        job = Job(self, words, env={"TMPDIR": str(place)})
        self.started(job)
        self.assertTrue(any(os.readlink(f"/proc/{job.process.pid}/fd/{n}").startswith(str(place))
                            for n in os.listdir(f"/proc/{job.process.pid}/fd")))
        self.assertEqual(os.listdir(place), [])
        job.process.terminate()
        job.wait()
        self.assertEqual(os.listdir(place), [])


class ChangedOutputTest(FaultCase):
    """Results that others take away while the job runs."""

    def expect_noticed(self, change, *parts, ranks=1):
        job = Job(self, self.long_words("--overwrite"), ranks)
        self.started(job, 3)
        change(self.output)
        self.assertEqual(job.wait(), FILE, job.text())
        for part in (*parts, "out.jsonl", "may be lost"):
            self.assertIn(part, job.text())

    def test_deleted(self):
        for ranks in (1, 3):
            self.expect_noticed(os.unlink, "it was deleted", ranks=ranks)
            self.assertFalse(self.output.exists())

    def test_replaced(self):
        other = self.folder / "other"
        other.write_text("other\n")
        self.expect_noticed(lambda output: os.rename(other, output), "another file has taken its place")
        self.assertEqual(self.output.read_text(), "other\n")

    def test_truncated(self):
        self.expect_noticed(lambda output: os.truncate(output, 0), "has cut it", "to 0 bytes")
        self.assertEqual(self.output.read_bytes(), b"")


class LostReaderTest(FaultCase):
    """Nobody reads the log: the job goes on. Nobody reads the results: it ends."""

    def shell(self, script, words):
        """Exit code of a script in which "$@" is the job; and its standard output."""
        done = subprocess.run(["bash", "-c", script, "sh", fault_case.PROGRAM, *map(str, words)], cwd=self.folder,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                              env=dict(os.environ, OMP_NUM_THREADS="1"))
        return done.returncode, done.stdout

    def test_logs_that_nobody_takes(self):
        rows = self.rows(3)
        for script in ('"$@" 2>&1 | head -c 0; exit ${PIPESTATUS[0]}', '"$@" 2>&-', '"$@" >&- 2>&-', '"$@" <&- >&- 2>&-',
                       '"$@" 2>/dev/full'):
            with self.subTest(script):
                self.assertEqual(self.shell(script, self.words(rows, "--overwrite"))[0], 0)
                self.assertEqual(len(self.results()), 3)

    def test_a_log_that_may_not_grow(self):
        log = self.folder / "log"
        log.write_bytes(b"x" * 16384)
        words = self.words(self.rows(3), placement=["--percent", "100", "0", "100", "0", "100", "0"])
        self.assertEqual(self.shell('ulimit -f 16; "$@" 2>>log', words)[0], 0)
        self.assertEqual(log.stat().st_size, 16384)
        self.assertEqual(len(self.results()), 3)

    def test_summaries_that_nobody_takes(self):
        bench = ["bench", "--model", DEMO_MODEL, "--dummy", "--device", "cpu", "--prompt-len", "4", "--gen-len", "2",
                 "--num-rows", "1", "--offload-dir", self.offload, *THREE_TIERS]
        for script in ('"$@" | true; exit ${PIPESTATUS[0]}', '"$@" >&-', '"$@" >/dev/full'):
            self.assertEqual(self.shell(script, bench)[0], 0, script)
        code, text = self.shell('"$@" 2>/dev/null', bench)
        self.assertEqual(code, 0)
        self.assertIn("throughput ", text)
        self.assertEqual(self.shell('"$@" 2>&1', [*bench, "--quiet"]), (0, ""))
        code, text = self.shell('"$@" 2>/dev/null', [*bench, "--report", "-"])
        self.assertEqual(json.loads(text)["command"], "bench")
        self.assertEqual(self.shell('"$@" >&-', [*bench, "--report", "-"])[0], FILE)

    def test_score_prints_what_it_found(self):
        text = self.folder / "text"
        text.write_text("name: river deli. phone: 720-217-3806.")
        words = ["score", "--model", DEMO_MODEL, "--text", text, "--device", "cpu", "--offload-dir", self.offload, *THREE_TIERS]
        self.assertIn("perplexity ", self.shell('"$@" 2>/dev/null', words)[1])
        found = self.shell('"$@" 2>/dev/null', [*words, "--output", "-"])[1]
        self.assertEqual([json.loads(line)["custom_id"] for line in found.splitlines()], ["text"])

    def test_results_that_nobody_takes(self):
        words = self.words(self.rows(3), output="-")
        for script in ('"$@" | true; exit ${PIPESTATUS[0]}', '"$@" >&-', '"$@" >/dev/full'):
            self.assertEqual(self.shell(script, words)[0], FILE, script)

    def test_quiet(self):
        self.assertEqual(self.shell('"$@" 2>&1', self.words(self.rows(3), "--quiet")), (0, ""))
        rows = self.rows(1)
        rows.write_text('{"custom_id": "bad"}\n')
        code, text = self.shell('"$@" 2>&1', self.words(rows, "--quiet", "--overwrite"))
        self.assertEqual((code, text.count("\n")), (ROWS_FAILED, 1), text)
        self.assertIn("warning: 1 of 1 rows failed", text)


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
