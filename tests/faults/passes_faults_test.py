#!/usr/bin/env python3
"""Jobs of more rows than are read ahead, some of which ask for what no row of the beginning did: a pass of their own.

usage: passes_faults_test.py FLEXGEN-DIST
"""
import json
import os
import shutil
import signal

from fault_case import DEMO_MODEL, FaultCase, Job, main, wait_until

WINDOW = 16384  # rows by which a job is planned
ROWS_FAILED, INTERRUPTED = 1, 130
RESIDENT = ["--percent", "100", "0", "100", "0", "100", "0", "--gpu-batch-size", "256", "--num-gpu-batches", "1"]
PLANNED_ANEW = "planned anew"


def plain_row(i):
    return {"custom_id": f"row-{i}", "prompt": [5 + i % 900, 6 + i % 7, 7], "max_tokens": 1}


def special_rows(count, max_tokens):
    """Whose prompts are scored, which no other's is."""
    for i in range(count):
        row = {"custom_id": f"special-{i}", "prompt": f"The sea is {i * 7919 % 1000}", "max_tokens": max_tokens}
        if i % 3 == 0:
            row["prompt_logprobs"] = 2
        elif i % 3 == 1:
            row.update(choices=[" blue", " red and hot"])
        else:
            row.update(echo=True, logprobs=1, temperature=1, seed=i)
        yield row


class PassesCase(FaultCase):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"  # two layers of eight
        shutil.copytree(DEMO_MODEL, self.model)
        config = json.loads((self.model / "config.json").read_text())
        (self.model / "config.json").write_text(json.dumps(dict(config, num_hidden_layers=2)))

    def write(self, name, rows):
        file = self.folder / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    def job_words(self, rows, *more, output=None):
        return self.words(rows, "--dtype", "float32", *more, output=output, model=self.model, placement=RESIDENT)

    def lines(self, file=None):
        data = (file or self.output).read_bytes()
        self.assertTrue(data.endswith(b"\n"))
        return data.splitlines()

    def num_written(self):
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    def passes(self):
        return json.loads((self.folder / "report.json").read_text())["job"]["passes"]


class PlanTest(PassesCase):
    def test_what_waits_gives_what_it_gives_at_the_front(self):
        plain, special = [plain_row(i) for i in range(WINDOW + 400)], list(special_rows(9, 3))
        first = self.write("first.jsonl", special + plain)
        behind_rows = plain[:WINDOW + 100] + special[:4] + plain[WINDOW + 100:] + special[4:]
        behind = self.write("behind.jsonl", behind_rows)
        report = ["--report", self.folder / "report.json"]
        whole = self.folder / "whole.jsonl"
        text = self.expect(0, self.job_words(first, *report, output=whole))
        self.assertNotIn(PLANNED_ANEW, text)
        self.assertEqual(self.passes(), 1)
        wanted = sorted(self.lines(whole))
        for ranks in (1, 2):
            self.expect(0, self.job_words(behind, "--preserve-order", "--overwrite", *report), PLANNED_ANEW,
                        "9 rows for which the plan has no room (log-probabilities of prompts)", ranks=ranks)
            self.assertEqual(self.passes(), 2)
            found = self.lines()
            self.assertEqual(sorted(found), wanted)
            self.assertEqual([json.loads(line)["custom_id"] for line in found], [row["custom_id"] for row in behind_rows])
            self.assertEqual(json.loads((self.folder / "report.json").read_text())["job"]["rows"], len(behind_rows))

    def test_a_row_that_the_machine_has_no_room_for_costs_itself(self):
        """The model takes 2048 tokens: no plan with room for so many fits, nor one for the row of 1500, but others do."""
        plain = [plain_row(i) for i in range(WINDOW + 50)]
        long = [dict(plain_row(0), custom_id=f"long-{n}", prompt=[5] * n) for n in (1500, 300, 1600)]
        rows = self.write("rows.jsonl", plain + long)
        words = [*self.job_words(rows, "--gpu-mem", "20MiB")]
        words[words.index("256")] = "2"
        text = self.expect(ROWS_FAILED, words, "2 of 16437 rows failed", PLANNED_ANEW)
        errors = {name: line["error"]["code"] for name, line in self.results().items() if "error" in line}
        self.assertEqual(errors, {"long-1500": "does_not_fit", "long-1600": "does_not_fit"}, text)


class GoingOnTest(PassesCase):
    def setUp(self):
        super().setUp()
        rows = [plain_row(i) for i in range(WINDOW + 200)]
        self.input = self.write("rows.jsonl", rows[:WINDOW + 40] + list(special_rows(240, 24)) + rows[WINDOW + 40:])
        self.whole = self.folder / "whole.jsonl"

    def end_by(self, number, condition, ranks=1):
        job = Job(self, self.job_words(self.input, "--preserve-order"), ranks)
        pids = job.pids()
        self.assertTrue(wait_until(lambda: condition(job) or job.process.poll() is not None))
        if number == signal.SIGKILL:
            os.kill(pids[0], number)
        else:
            job.process.send_signal(number)
        code = job.wait()
        self.expect_gone(pids.values())
        return code, job.text()

    def test_a_job_that_was_killed_and_stopped_gives_what_one_does_that_was_not(self):
        self.expect(0, self.job_words(self.input, "--preserve-order", output=self.whole), PLANNED_ANEW)
        self.end_by(signal.SIGKILL, lambda job: self.num_written() > WINDOW // 2)
        code, text = self.end_by(signal.SIGTERM, lambda job: PLANNED_ANEW in job.text() or self.num_written() > WINDOW + 40)
        self.assertEqual(code, INTERRUPTED, text)
        self.end_by(signal.SIGKILL, lambda job: self.num_written() > WINDOW + 100, ranks=2)
        self.expect(0, self.job_words(self.input, "--preserve-order"))
        self.assertEqual(self.lines(), self.lines(self.whole))

    def test_an_interrupt_between_passes_of_two_ranks(self):
        code, text = self.end_by(signal.SIGTERM, lambda job: PLANNED_ANEW in job.text(), ranks=2)
        self.assertEqual(code, INTERRUPTED, text)
        self.assertIn("the same command goes on from there", text)
        self.assertNotIn("MPI_ABORT", text)
        self.assertEqual(self.num_written(), WINDOW + 40)
        self.expect(0, self.job_words(self.input, "--preserve-order"))
        self.assertEqual(self.num_written(), WINDOW + 440)


class EndTest(PassesCase):
    def test_too_many_errors_in_mid_run_end_all_ranks_in_order(self):
        rows = [plain_row(i) for i in range(WINDOW + 2300)]
        for i in range(WINDOW + 2100, WINDOW + 2110):  # some sweeps on: a window of 1,024 rows is chosen from
            rows[i]["prompt"] = [99999]
        file = self.write("rows.jsonl", rows)
        found = []
        for ranks in (1, 2):
            text = self.expect(ROWS_FAILED, self.job_words(file, "--max-row-errors", "6", "--preserve-order"),
                               "the job has ended early: 7 of its first ", "--max-row-errors allows 6", ranks=ranks)
            self.assertNotIn("MPI_ABORT", text)
            self.assertIn("loading", text)
            self.assertGreaterEqual(self.num_written(), 256, "a sweep had ended")
            self.assertTrue((self.folder / "out.jsonl.journal").exists())
            self.expect(ROWS_FAILED, self.job_words(file, "--preserve-order"), "going on with the job of", ranks=ranks)
            found.append(self.lines())
            self.output.unlink()
        self.assertEqual(len(found[0]), len(rows))
        self.assertEqual(found[0], found[1])


if __name__ == "__main__":
    main()
