#!/usr/bin/env python3
"""Rows and files that are wrong: a bad row costs itself alone, a bad file ends the job with exit code 6.

usage: files_faults_test.py FLEXGEN-DIST
"""
import bz2
import gzip
import json
import lzma
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
               '{"custom_id": "hot", "prompt": "x", "temperature": 2.5}', '{"custom_id": "row-0", "prompt": "again"}']
        mixed = [line for pair in zip(bad, good + good) for line in pair][:2 * len(good)] + bad[len(good):]
        rows.write_text("\n".join(mixed) + "\n", encoding="utf-8")
        self.expect(ROWS_FAILED, self.words(rows), "6 of 10 rows failed")
        results = self.results()
        self.assertEqual(len(results), 10)
        failed = {name for name, result in results.items() if "error" in result}
        self.assertEqual(len(failed), 6)
        self.assertTrue({"ids", "long", "hot"} <= failed)

        rows.write_text("\n".join(good) + "\n", encoding="utf-8")
        alone = self.folder / "alone.jsonl"
        self.expect(0, self.words(rows, output=alone))
        for name, result in self.results(alone).items():
            self.assertEqual(results[name], result)

    def test_broken_rows_keep_their_ids(self):
        file = self.folder / "rows.jsonl"
        file.write_bytes(b'{"custom_id": "cut-emoji", "prompt": "hi \\ud83d", "stop": "\\ud83d", "max_tokens": 2}\n'
                         b'{"custom_id": "comma", "prompt": "x",}\n'
                         b'{"custom_id": "twice", "prompt": "x", "prompt": "y"}\n'
                         b'{"prompt": "caf\xe9", "custom_id": "latin-1"}\n'
                         b'{"custom_id": "batch", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x",}}\n'
                         b'{"prompt": [{"custom_id": "nested"}],}\n'
                         b'{"custom_id": "torn", "prompt": "x')
        self.expect(ROWS_FAILED, self.words(file), "6 of 7 rows failed")
        results = self.results()
        self.assertEqual(set(results), {"cut-emoji", "comma", "twice", "latin-1", "batch", "line-6", "torn"})
        self.assertEqual(results["cut-emoji"]["usage"]["completion_tokens"], 2)
        self.assertIsNone(results["batch"]["response"])
        for name in set(results) - {"cut-emoji"}:
            self.assertEqual(results[name]["error"]["code"], "invalid_json")

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


class LongRowsTest(FaultCase):
    """The demo model has 2048 positions; a token that is generated last needs none."""
    IDS = [(37 * i) % 4000 + 4 for i in range(3000)]

    def write(self, rows):
        file = self.folder / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    def tokens(self, name):
        return self.results()[name]["token_ids"]

    def test_rows_fill_the_last_position(self):
        rows = self.write([{"custom_id": "grown", "prompt": self.IDS[:2044], "max_tokens": 5},
                           {"custom_id": "full", "prompt": self.IDS[:2048], "max_tokens": 1},
                           {"custom_id": "wish", "prompt": self.IDS[:2046]},
                           {"custom_id": "over", "prompt": self.IDS[:2046], "max_tokens": 4},
                           {"custom_id": "long", "prompt": self.IDS[:2049]}])
        options = ["--dtype", "float32", "--return-token-ids", "--overwrite"]
        self.expect(ROWS_FAILED, self.words(rows, *options), "2 of 5 rows failed")
        results, grown = self.results(), self.tokens("grown")
        self.assertEqual([len(self.tokens(name)) for name in ("grown", "full", "wish")], [5, 1, 3])
        self.assertEqual(results["wish"]["finish_reason"], "length")
        self.assertIn("max_tokens 4", results["over"]["error"]["message"])
        self.assertNotIn("max_tokens", results["long"]["error"]["message"])
        # The last token once more, from a prompt that holds all tokens before it.
        rows = self.write([{"custom_id": "read", "prompt": self.IDS[:2044] + grown[:-1], "max_tokens": 1}])
        for ranks in (1, 2):
            self.expect(0, self.words(rows, *options), ranks=ranks)
            self.assertEqual(self.tokens("read"), grown[-1:])

    def test_prompts_are_cut(self):
        rows = self.write([{"custom_id": "a", "prompt": self.IDS, "max_tokens": 3}, {"custom_id": "b", "prompt": "short"}])
        for side, kept in (("left", self.IDS[-2046:]), ("right", self.IDS[:2046])):
            text = self.expect(0, self.words(rows, "--truncate-prompt", side, "--return-token-ids", "--overwrite"),
                               "1 row had a prompt that is too long", f"on the {side}")
            self.assertEqual(self.results()["a"]["prompt_token_ids"], kept, text)
            self.assertEqual(self.results()["a"]["usage"]["prompt_tokens"], 2046)


def wide(encoding):
    return lambda text: text.encode(encoding)


class KindsTest(FaultCase):
    """An input that holds no rows at all is one error, before anything is read or written."""
    ROWS = '{"custom_id": "a", "prompt": "x"}\n{"custom_id": "b", "prompt": "y"}\n'
    KINDS = {
        "it is a gzip file": lambda text: gzip.compress(gzip.compress(text.encode())),
        "it is an xz file": lambda text: lzma.compress(text.encode()),
        "it is a bzip2 file": lambda text: bz2.compress(text.encode()),
        "it is UTF-16 text": wide("utf-16"),
        "iconv -f UTF-16LE": wide("utf-16-le"),
        "iconv -f UTF-16BE": wide("utf-16-be"),
        "it is UTF-32 text": wide("utf-32"),
        "iconv -f UTF-32BE": wide("utf-32-be"),
        "it is one JSON array": lambda text: json.dumps([json.loads(line) for line in text.splitlines()], indent=1).encode(),
        "go over several lines": lambda text: "".join(json.dumps(json.loads(line), indent=1) + "\n"
                                                      for line in text.splitlines()).encode(),
        "it looks like a table (CSV)": lambda text: b"custom_id,prompt\na,x\nb,y\n",
        "it looks like a table (TSV)": lambda text: b"custom_id\tprompt\na\tx\n",
        "its lines end with CR alone": lambda text: text.replace("\n", "\r").encode(),
        "it is a Parquet file": lambda text: b"PAR1\x15\x04" + bytes(range(256)) + b"PAR1",
        "it is a binary file": lambda text: bytes(range(256)) * 5,
    }

    def test_each_kind_is_named(self):
        file = self.folder / "rows"
        for number, (what, make) in enumerate(self.KINDS.items()):
            file.write_bytes(make(self.ROWS))
            words = self.words(file)
            words[0] = ("generate", "score")[number % 2]
            text = self.expect(FILE, words, "cannot read rows from", what)
            self.assertNotIn("loading", text)
            self.assertFalse(self.output.exists())

    def test_under_two_ranks_and_from_standard_input(self):
        file = self.folder / "rows"
        file.write_bytes(self.KINDS["it is an xz file"](self.ROWS))
        self.expect(FILE, self.words(file), "it is an xz file", ranks=2)
        for data, code in ((file.read_bytes(), FILE), (self.ROWS.encode(), 0)):
            file.write_bytes(data)
            job = Job(self, self.words("-"), stdin=file)
            self.assertEqual(job.wait(), code, job.text())
        self.assertEqual(set(self.results()), {"a", "b"})

    def test_a_bad_first_line_is_a_row(self):
        file = self.folder / "rows"
        file.write_text("custom_id,prompt\n" + self.ROWS)
        self.expect(ROWS_FAILED, self.words(file), "1 of 3 rows failed")
        self.assertEqual(set(self.results()), {"line-1", "a", "b"})


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

    def test_a_model_that_cannot_be_compressed_leaves_nothing(self):
        model = copy_model(self.folder / "damaged")
        overwrite_tensor(model / "model.safetensors", "model.decoder.layers.6.fc2.weight", b"\x00\x7e", row=0)
        there = self.folder / "there"
        there.mkdir()
        for ranks, new in ((1, self.folder / "new"), (2, self.folder / "new"), (2, there)):
            words = self.words(self.rows(1), "--compress-weight", "--save-compressed", new, model=model)
            self.expect(MODEL, words, "fc2.weight", "a NaN or an infinity", ranks=ranks)
            self.assertEqual([entry.name for entry in self.folder.glob("new*")], [])
        self.assertEqual(list(there.iterdir()), [])
        self.expect(0, self.words(self.rows(1), "--compress-weight", "--save-compressed", there))
        self.assertTrue((there / "config.json").exists())
        self.assertEqual([entry.name for entry in self.folder.glob("there*")], ["there"])

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
    """A model that gives no numbers: rows that meet it are errors, all others are as they were."""
    NAN = b"\x00\x7e"

    def damaged_model(self, position):
        model = copy_model(self.folder / "damaged")
        overwrite_tensor(model / "model.safetensors", "model.decoder.embed_positions.weight", self.NAN, position + 2)
        return model

    def test_a_checkpoint_of_nans_fails_every_row(self):
        model = copy_model(self.folder / "nan")
        overwrite_tensor(model / "model.safetensors", "model.decoder.final_layer_norm.weight", self.NAN)
        for ranks in (1, 3):
            text = self.expect(ROWS_FAILED, self.words(self.rows(3), "--overwrite", "--dtype", "float32", model=model),
                               "3 of 3 rows failed", "damaged", ranks=ranks)
            self.assertEqual(text.count("not a finite number"), 1, text)
            self.assertEqual(text.count("Try --dtype"), 0, text)
            self.assertEqual({result["error"]["code"] for result in self.results().values()}, {"not_a_number"})

    def test_only_rows_that_reach_a_damaged_position_fail(self):
        ids = list(range(100, 160))
        rows = [{"custom_id": f"plain-{n}", "prompt": ids[:n], "max_tokens": 8} for n in (5, 25, 32, 33, 34, 40, 50)]
        rows += [{"custom_id": f"batch-{n}", "method": "POST", "url": "/v1/completions",
                  "body": {"prompt": [ids[:4], ids[:n], ids[:6]], "max_tokens": 8}} for n in (12, 45)]
        rows += [{"custom_id": f"again-{n}", "prompt": ids[:n], "max_tokens": 8} for n in range(6, 14)]
        file = self.folder / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sound = self.folder / "sound.jsonl"
        self.expect(0, self.words(file, "--dtype", "float32", output=sound))
        sound, model = self.results(sound), self.damaged_model(position=40)
        failing = {"plain-34", "plain-40", "plain-50", "batch-45"}
        for ranks in (1, 2):
            report = self.folder / f"report-{ranks}.json"
            self.expect(ROWS_FAILED, self.words(file, "--overwrite", "--dtype", "float32", "--report", report, model=model),
                        "4 of 17 rows failed", ranks=ranks)
            results = self.results()
            self.assertEqual({name for name, result in results.items() if result.get("error")}, failing)
            for name in set(results) - failing:
                self.assertEqual(of_any_job(results[name]), of_any_job(sound[name]))
            self.assertEqual(set(results["plain-50"]), {"custom_id", "error"})
            self.assertIsNone(results["batch-45"]["response"])
            self.assertIn("prompt[1]", results["batch-45"]["error"]["message"])
            self.assertEqual(json.loads(report.read_text())["job"]["failed_rows"], 4)

    def test_only_texts_that_reach_a_damaged_position_have_no_score(self):
        ids = list(range(100, 160))
        file = self.folder / "texts.jsonl"
        file.write_text("".join(json.dumps({"custom_id": f"text-{n}", "prompt": ids[:n]}) + "\n" for n in (3, 60, 39, 40, 41, 12)))
        words = ["score", *self.words(file, "--dtype", "float32")[1:]]
        self.expect(0, words)
        sound = self.results()
        words[words.index("--model") + 1] = self.damaged_model(position=40)
        for ranks in (1, 2):
            report = self.folder / f"report-{ranks}.json"
            self.expect(ROWS_FAILED, [*words, "--overwrite", "--report", report], "2 of 6 rows failed", ranks=ranks)
            results = self.results()
            self.assertEqual({name for name, result in results.items() if "error" in result}, {"text-60", "text-41"})
            for name in set(results) - {"text-60", "text-41"}:
                self.assertEqual(results[name], sound[name])
            score = json.loads(report.read_text())["score"]
            self.assertEqual(score["tokens"], 2 + 38 + 39 + 11)
            self.assertLess(score["log_probability"], 0)

    def test_a_plain_text_without_scores(self):
        text = self.folder / "text.txt"
        text.write_text("What is the city? " * 40)
        words = ["score", "--model", self.damaged_model(position=40), "--text", text, "--device", "cpu", "--dtype", "float32",
                 "--offload-dir", self.offload]
        self.expect(ROWS_FAILED, words, "row 'text.txt'", "not a finite number", "1 of 1 rows failed")
        words[words.index("--text"):words.index("--text") + 2] = ["--quality-check", text, "--compress-weight"]
        for ranks in (1, 2):
            self.expect(MODEL, words, "cannot judge quality", ranks=ranks)


def of_any_job(result):
    """Without what says when and by which folder's model it was made."""
    result = json.loads(json.dumps(result))
    if result.get("response"):
        del result["response"]["body"]["created"], result["response"]["body"]["model"]
    return result


if __name__ == "__main__":
    main()
