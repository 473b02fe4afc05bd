#!/usr/bin/env python3
"""Rows in every form in which they may come, through whole jobs; and what is done with rows that go wrong.

usage: input_faults_test.py FLEXGEN-DIST [unittest options]
"""
import csv
import gzip
import io
import json

from fault_case import DEMO_ROWS, ROOT, FaultCase, Job, main

ROWS_FAILED, USAGE, FILE = 1, 2, 6


class InputFormsTest(FaultCase):
    """The same rows give the same results, however they come."""
    COUNT = 12

    def setUp(self):
        super().setUp()
        with open(DEMO_ROWS, encoding="utf-8") as source:
            self.demo = [dict(json.loads(next(source)), max_tokens=3, temperature=0.5) for _ in range(self.COUNT)]
        self.demo[3]["prompt"] = 'a "quoted", line\nand another\ttab'

    def write(self, name, data):
        file = self.folder / name
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        return file

    @staticmethod
    def jsonl(rows):
        return "".join(json.dumps(row) + "\n" for row in rows)

    def table(self, separator):
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=separator)
        writer.writerow(self.demo[0])
        for row in self.demo:
            writer.writerow(json.dumps(value) if isinstance(value, list) else value for value in row.values())
        return text.getvalue()

    def test_forms_give_the_same_results(self):
        self.expect(0, self.words(self.write("rows.jsonl", self.jsonl(self.demo))))
        wanted = self.results()
        self.assertEqual(len(wanted), self.COUNT)
        packed = gzip.compress(self.table(",").encode())
        halves = [self.write("one.jsonl", self.jsonl(self.demo[:5])),
                  self.write("two.jsonl.gz", gzip.compress(self.jsonl(self.demo[5:]).encode()))]
        for file in (self.write("rows.csv", self.table(",")), self.write("rows.tsv", self.table("\t")),
                     self.write("rows.csv.gz", packed), halves):
            words = self.words("INPUT", "--overwrite")
            at = words.index("INPUT")
            words[at:at + 1] = file if isinstance(file, list) else [file]
            self.expect(0, words)
            self.assertEqual(self.results(), wanted, file)
        self.expect(0, self.words(halves[0], "--input", halves[1], "--overwrite"), ranks=2)
        self.assertEqual(self.results(), wanted)
        job = Job(self, self.words("-", "--input-format", "csv", "--overwrite"), stdin=self.folder / "rows.csv.gz")
        self.assertEqual(job.wait(), 0, job.text())
        self.assertEqual(self.results(), wanted)

    def test_parquet_gives_what_its_lines_give(self):
        """Or, in a build without Arrow, a message that says how to come by it."""
        file = ROOT / "tests" / "data" / "parquet" / "groups.parquet"
        texts = [" ".join(str(pow(7, 31 * i + k, 1000003)) for k in range(20)) for i in range(60)]  # as make_parquet.py has it
        rows = self.write("rows.jsonl", self.jsonl({"custom_id": f"r{i}", "prompt": text} for i, text in enumerate(texts)))
        code, text = self.run_job(self.words(file, "--gen-len", "1"))
        if code == FILE:
            self.assertIn("built without Arrow", text)
            self.assertIn("-DFLEXGEN_ARROW=ON", text)
            return
        self.assertEqual(code, 0, text)
        found = self.results()
        self.expect(0, self.words(rows, "--gen-len", "1", "--overwrite"))
        self.assertEqual(self.results(), found)

    def test_a_torn_file_is_run_as_far_as_it_goes(self):
        text = "".join(json.dumps({"custom_id": f"r{i}", "prompt": f"row {i * 7919 % 1000}", "max_tokens": 1}) + "\n"
                       for i in range(300))
        torn = self.write("torn.gz", gzip.compress(text.encode())[:-500])
        for ranks in (1, 2):
            text = self.expect(FILE, self.words(torn, "--overwrite"), "it breaks off within its gzip data", ranks=ranks)
            self.assertNotIn("MPI_ABORT", text)
            found = self.results()
            self.assertGreater(len(found), 10)
            self.assertEqual(set(found), {f"r{i}" for i in range(len(found))})

    def test_templates_and_kept_fields(self):
        table = "label,a,b\n1,x,y\n2,p,q\n3,short\n"
        self.expect(ROWS_FAILED, self.words(self.write("rows.csv", table), "--prompt-template", "Is {a} {b}? {{}}",
                                            "--keep-fields", "label", "--return-token-ids"), "1 of 3 rows failed")
        found = self.results()
        self.assertEqual({line["label"] for line in found.values()}, {"1", "2", "3"})
        self.assertIn("2 fields", found["line-4"]["error"]["message"])
        rows = self.write("rows.jsonl", self.jsonl({"custom_id": f"line-{i}", "prompt": f"Is {words}? {{}}"}
                                                   for i, words in ((2, "x y"), (3, "p q"))))
        self.expect(0, self.words(rows, "--return-token-ids", "--overwrite"))
        for name, line in self.results().items():
            self.assertEqual(line["prompt_token_ids"], found[name]["prompt_token_ids"])

    def test_hostile_rows_cost_themselves(self):
        with open(self.folder / "rows.jsonl", "wb") as file:
            file.write(b'{"custom_id": "a", "prompt": "x", "max_tokens": 1}\n{"custom_id": "long", "prompt": "')
            for _ in range(100):
                file.write(b"x" * 1_000_000)
            file.write(b'"}\n{"prompt": "\0"}\n{"custom_id": "b", "prompt": "y", "max_tokens": 1}\n')
        self.expect(ROWS_FAILED, self.words(self.folder / "rows.jsonl"), "2 of 4 rows failed")
        self.assertEqual(self.results()["long"]["error"]["code"], "line_too_long")

    def test_too_many_errors_end_the_job(self):
        rows = self.write("rows.jsonl", self.jsonl({"custom_id": str(i)} for i in range(200)))
        text = self.expect(ROWS_FAILED, self.words(rows, "--max-row-errors", "10"), "11 of its first 11 rows failed",
                           "--max-row-errors allows 10")
        self.assertNotIn("loading", text)
        self.assertEqual(len(self.results()), 11)
        self.expect(ROWS_FAILED, self.words(rows, "--max-row-errors", "5%", "--overwrite"), "100 of its first 100")

    def test_answers_come_again_alike_on_any_number_of_ranks(self):
        rows = self.write("rows.jsonl", self.jsonl({"custom_id": str(i), "prompt": "name: x. city?", "max_tokens": 4,
                                                    "temperature": 1.5, "seed": i} for i in range(24)))
        found = []
        for ranks in (1, 2):
            self.expect(0, self.words(rows, "--retry-if-not", "^ *[a-m]", "--retries-per-row", "4", "--overwrite"),
                        ranks=ranks)
            found.append(self.results())
        self.assertEqual(found[0], found[1])
        attempts = [line["attempts"] for line in found[0].values()]
        self.assertEqual(len(attempts), 24)
        self.assertGreater(max(attempts), 1)
        self.assertLessEqual(max(attempts), 5)
        for line in found[0].values():
            matches = line["text"].strip()[:1] in tuple("abcdefghijklm")
            self.assertEqual(line.get("matched", True), matches, line)

    def test_what_is_wrong_with_options_is_told_first(self):
        rows = self.rows(1)
        for options, what in ((["--retry-if-not", "("], "is no regular expression"),
                              (["--retry-if-not", "x"], "needs --retries-per-row"),
                              (["--retries-per-row", "2"], "needs --retry-if-not"),
                              (["--keep-fields", "text"], "cannot keep 'text'"),
                              (["--prompt-template", "{a"], "is not closed"),
                              (["--max-row-errors", "many"], "is no limit"),
                              (["--input-format", "xml"], "is not known"),
                              (["--input", "-", "-"], "standard input twice")):
            self.expect(USAGE, self.words(rows, *options), what)


if __name__ == "__main__":
    main()
