#!/usr/bin/env python3
"""Jobs that are killed, stopped or run out of disk, and go on when the same command is given again.

usage: journal_faults_test.py FLEXGEN-DIST FAULTY-WRITES-LIBRARY      FLEXGEN_KILLS, FLEXGEN_ROWS: how long it takes
"""
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import unittest

from fault_case import DEMO_ROWS, FaultCase, Job, descendants, main, wait_until

KILLS = int(os.environ.get("FLEXGEN_KILLS", "5"))
ROWS = int(os.environ.get("FLEXGEN_ROWS", "150"))
ROWS_FAILED, FILE, INTERRUPTED = 1, 6, 130
LIBRARY = ""
PATIENCE_S = 60 if KILLS <= 5 else 600
RESIDENT = ["--percent", "100", "0", "100", "0", "100", "0", "--gpu-batch-size", "4", "--num-gpu-batches", "2"]


def timeless(data):
    """Without what says when the job was first begun."""
    return re.sub(rb'"created":\d+', b'"created":0', data)


class JournalCase(FaultCase):
    def run_job(self, words, ranks=1):
        job = Job(self, words, ranks)
        return job.wait(PATIENCE_S), job.text()

    def mixed_rows(self, count):
        """Rows of all sorts: greedy, drawn by a seed and without one, of several answers, OpenAI's, bad ones, blank lines."""
        file = self.folder / "mixed.jsonl"
        demo = [json.loads(line) for line in DEMO_ROWS.read_text(encoding="utf-8").splitlines()]
        with open(file, "w", encoding="utf-8") as to:
            for i in range(count):
                row = {"custom_id": f"row-{i}", "prompt": demo[i % len(demo)]["prompt"], "max_tokens": 1 + i * 7 % 12}
                if i % 3 == 1:
                    row.update(temperature=0.8, **({"seed": i} if i % 2 else {}))
                if i % 11 == 5:
                    row.update(temperature=1, n=2)
                if i % 10 == 7:
                    row = {"custom_id": f"row-{i}", "prompt": 5 if i % 20 == 7 else [99999]}
                elif i % 4 == 2:
                    name = row.pop("custom_id")
                    row = {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": row}
                to.write(json.dumps(row) + "\n" + ("\n" if i % 13 == 0 else ""))
        return file

    def job_words(self, rows, *more, output=None, command="generate"):
        return [command, *self.words(rows, "--dtype", "float32", *more, output=output, placement=RESIDENT)[1:]]

    def lines_of(self, file):
        if file.suffix == ".gz":
            data = gzip.decompress(file.read_bytes())
        elif file.suffix == ".zst":
            data = subprocess.run(["zstd", "-dc", file], check=True, capture_output=True).stdout
        else:
            data = file.read_bytes()
        self.assertTrue(data == b"" or data.endswith(b"\n"), data[-200:])
        return timeless(data).splitlines()

    def num_done(self, output):
        """Rows that are done by the journal's records."""
        journal = output.parent / (output.name + ".journal")
        done = set()
        for line in journal.read_bytes().splitlines() if journal.exists() else []:
            words = line.split(b" ")
            if words[1:2] == [b"b"]:
                ranges = [part.split(b"-") for part in words[-1].split(b",")] if words[-1] != b"-" else []
                done = {row for ends in ranges for row in range(int(ends[0]), int(ends[-1]) + 1)}
            elif words[1:2] in ([b"r"], [b"h"]) and len(words) > 2 and words[2].isdigit():
                done.add(int(words[2]))
        return len(done)

    def faulty(self, **what):
        return {"LD_PRELOAD": LIBRARY, **{f"FLEXGEN_FAULT_{name.upper()}": str(value) for name, value in what.items()}}

    def run_with(self, words, ranks=1, **what):
        job = Job(self, words, ranks, env=self.faulty(**what))
        code = job.wait()
        self.expect_gone(descendants(job.process.pid))
        return code, job.text()


class KillTest(JournalCase):
    def kill_once(self, words, output, ranks, chance):
        """Starts the job and ends it by force. False where it was done before that."""
        kind = chance.choice(["first", "last", "launcher", "mid-write"])
        env = None
        if kind == "mid-write":
            env = self.faulty(at=chance.randint(1, ROWS // (2 * KILLS)), file=chance.choice([output.name, ".journal"]))
        job = Job(self, words, ranks, env=env)
        pids = job.pids()
        started = {job.process.pid} | descendants(job.process.pid)
        if ranks > 1:  # mpirun (Open MPI 4.1) hangs where a rank is killed before it has joined the others
            wait_until(lambda: "loading" in job.text() or job.process.poll() is not None)
        if kind != "mid-write":
            wanted = chance.randint(0, 2 * ROWS // (KILLS + 1))
            wait_until(lambda: self.num_done(output) >= wanted or job.process.poll() is not None, PATIENCE_S)
            victim = {"first": pids.get(0), "last": pids.get(ranks - 1), "launcher": job.process.pid}[kind]
            try:
                os.kill(victim or job.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        job.wait(PATIENCE_S)
        self.expect_gone(started)
        return job.process.returncode not in (0, ROWS_FAILED)

    def kill_and_compare(self, rank_counts, *more, output=None, errors=None, command="generate"):
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        rows, output = self.mixed_rows(ROWS), self.folder / (output or "out.jsonl")
        if command == "score":
            rows.write_text("".join(json.dumps({"custom_id": f"text-{i}", "prompt": [4 + (i * 31 + k) % 4000 for k in range(1 + i % 40)]})
                                    + "\n" for i in range(ROWS)))
        wanted = {file: self.folder / ("whole-" + file.name) for file in [output] + ([self.folder / errors] if errors else [])}
        words = lambda files: self.job_words(rows, *more, *(["--error-file", files[1]] if errors else []), output=files[0], command=command)
        codes = {0, ROWS_FAILED}
        self.assertIn(self.run_job(words(list(wanted.values())))[0], codes)
        with self.subTest(seed=seed):
            kills = sum(self.kill_once(words(list(wanted)), output, rank_counts[i % len(rank_counts)], chance) for i in range(KILLS))
            self.assertGreater(kills, 0)
            code, text = self.run_job(words(list(wanted)), rank_counts[-1])
            self.assertIn(code, codes, text)
            for file, whole in wanted.items():
                found, expected = self.lines_of(file), self.lines_of(whole)
                if "--preserve-order" not in more:
                    found, expected = sorted(found), sorted(expected)
                self.assertEqual(found, expected)
            self.assertEqual(os.listdir(self.offload), [])
            again, text = self.run_job(words(list(wanted)))
            self.assertEqual(again, code)
            self.assertIn("is complete: its results", text)
            self.assertNotIn("loading", text)
        return output

    def test_alone(self):
        output = self.kill_and_compare([1])
        created = {json.loads(line)["response"]["body"]["created"] for line in output.read_text().splitlines()
                   if json.loads(line).get("response")}
        self.assertEqual(len(created), 1)

    def test_on_changing_numbers_of_ranks(self):
        self.kill_and_compare([2, 1, 4, 2] if KILLS > 5 else [2, 1], "--preserve-order", errors="errors.jsonl")

    @unittest.skipIf(KILLS <= 5, "the long run has it")
    def test_on_four_ranks(self):
        self.kill_and_compare([4])

    def test_packed(self):
        self.kill_and_compare([1], output="out.jsonl.gz", errors="errors.jsonl")

    @unittest.skipUnless(shutil.which("zstd"), "no zstd here to read it with")
    @unittest.skipIf(KILLS <= 5, "the long run has it")
    def test_packed_in_order(self):
        self.kill_and_compare([1, 2], "--preserve-order", output="out.jsonl.zst")

    def test_scores(self):
        self.kill_and_compare([1], command="score")


class DiskTest(JournalCase):
    def test_a_disk_that_fills_and_is_mended(self):
        rows, whole = self.mixed_rows(60), self.folder / "whole.jsonl"
        self.assertEqual(self.run_job(self.job_words(rows, output=whole))[0], ROWS_FAILED)
        for more in ([], ["--preserve-order"]):
            for file, room in ((".new", 100), (".jsonl", 300), (".journal", 150), (".new", 200), (".jsonl", 900), (".journal", 400)):
                code, text = self.run_with(self.job_words(rows, *more), room=room, file=file)
                self.assertEqual(code, FILE, text)
                self.assertIn("No space left on device", text)
                self.assertRegex(text, r"finished rows? (are|is) safe")
                if self.output.exists():
                    self.lines_of(self.output)  # whole ones
            code, text = self.run_job(self.job_words(rows, *more), 2)
            self.assertEqual(code, ROWS_FAILED, text)
            self.assertEqual(sorted(self.lines_of(self.output)), sorted(self.lines_of(whole)))
            self.output.unlink()

    def test_a_disk_that_fills_ends_all_ranks_in_order(self):
        rows = self.mixed_rows(60)
        for file, room in ((".jsonl", 900), (".journal", 400)):
            code, text = self.run_with(self.job_words(rows), 2, room=room, file=file)
            self.assertEqual(code, FILE, text)
            self.assertIn("No space left on device", text)
            self.assertEqual(text.count("error: "), 1, text)
            self.assertNotIn("MPI_ABORT", text)
        self.assertEqual(self.run_job(self.job_words(rows), 2)[0], ROWS_FAILED)
        self.assertEqual(len(self.results()), 60)

    def test_a_file_system_without_locks(self):
        job = Job(self, self.long_words(), env=self.faulty(locks="none"))
        self.started(job)
        lock = self.folder / "out.jsonl.lock"
        self.assertEqual(lock.read_text().split()[1], str(job.process.pid))
        code, text = self.run_with(self.words(self.rows(1), "--overwrite"), locks="none")
        self.assertEqual(code, FILE)
        self.assertIn("another process is writing", text)
        job.process.kill()
        job.wait()
        self.assertTrue(lock.exists())
        code, text = self.run_with(self.words(self.rows(1), "--restart"), locks="none")
        self.assertEqual(code, 0, text)
        self.assertFalse(lock.exists())


class StopTest(JournalCase):
    def test_an_interrupt_ends_with_the_sweep_and_the_job_goes_on(self):
        rows, whole = self.mixed_rows(ROWS), self.folder / "whole.jsonl"
        self.run_job(self.job_words(rows, "--preserve-order", output=whole))
        for ranks, number in ((1, signal.SIGINT), (2, signal.SIGTERM)):
            before = self.num_done(self.output)
            job = Job(self, self.job_words(rows, "--preserve-order"), ranks)
            self.assertTrue(wait_until(lambda: self.num_done(self.output) > before + 3 or job.process.poll() is not None))
            job.process.send_signal(number)
            self.assertEqual(job.wait(), INTERRUPTED, job.text())
            self.assertIn("interrupted: ", job.text())
            self.assertIn("the same command goes on from there", job.text())
            done = self.num_done(self.output)
            self.assertGreaterEqual(done, len(self.lines_of(self.output)))
        code, text = self.run_job(self.job_words(rows, "--preserve-order"))
        self.assertEqual(code, ROWS_FAILED)
        self.assertIn("going on with the job of", text)
        self.assertEqual(self.lines_of(self.output), self.lines_of(whole))

    def test_a_second_interrupt_loses_no_finished_row(self):
        job = Job(self, self.job_words(self.mixed_rows(2000), "--preserve-order"))
        self.started(job, 3)
        for _ in range(20):  # the second comes before the sweep ends, or there is no second
            if job.process.poll() is None:
                job.process.send_signal(signal.SIGINT)
        self.assertEqual(job.wait(), INTERRUPTED, job.text())
        done = self.num_done(self.output)
        job = Job(self, self.job_words(self.folder / "mixed.jsonl", "--preserve-order"))
        self.assertTrue(wait_until(lambda: " rows are done" in job.text() or job.process.poll() is not None))
        found = re.search(r"UTC: (\d+) rows are done", job.text())
        self.assertEqual(int(found.group(1)), done)


class ChangeTest(JournalCase):
    """What would give other results is refused; what only runs otherwise is not."""

    def interrupted_job(self, *more):
        rows = self.mixed_rows(ROWS)
        job = Job(self, self.job_words(rows, *more))
        self.started(job, 10)
        job.process.kill()
        job.wait()
        return rows

    def test_changes(self):
        rows = self.interrupted_job()
        before = self.output.read_bytes()
        for more, words in ((["--gen-len", "5"], "--gen-len was 32, is 5"), (["--dtype", "bfloat16"], "--dtype was float32, is bfloat16"),
                            (["--compress-cache"], "--compress-cache was no, is 4 bits"), (["--preserve-order"], "--preserve-order was no"),
                            (["--overwrite", "--truncate-prompt", "left"], "--truncate-prompt was error, is left")):
            changed = [word for word in self.job_words(rows, *more)]
            if "bfloat16" in more:
                del changed[changed.index("--dtype"):changed.index("--dtype") + 2]
            self.expect(FILE, changed, words, "--restart")
        content = rows.read_bytes()
        rows.write_bytes(content + b'{"prompt": "one more"}\n')
        self.expect(FILE, self.job_words(rows), "the input was", "--restart")
        rows.write_bytes(content)
        self.assertEqual(self.output.read_bytes(), before)
        other = ["--percent", "0", "100", "0", "100", "0", "100", "--gpu-batch-size", "3", "--num-gpu-batches", "1", "--overlap", "false"]
        words = self.job_words(rows)
        words[words.index("--percent"):words.index("--percent") + len(RESIDENT)] = other
        text = self.expect(ROWS_FAILED, words, "going on with the job of", ranks=2)
        self.assertEqual(len(self.results()), ROWS, text)
        self.expect(FILE, self.job_words(rows, "--gen-len", "5"), "it exists and is not empty", "--overwrite")

    def test_a_restart_begins_anew(self):
        rows = self.interrupted_job()
        rows.write_text('{"prompt": "a"}\n')
        self.expect(0, self.job_words(rows, "--restart"))
        self.assertEqual(set(self.results()), {"line-1"})

    def test_no_journal_without_files(self):
        for words in (self.job_words("-"), self.job_words(self.rows(2), output="-")):
            job = Job(self, words, stdin=self.rows(2))
            self.assertEqual(job.wait(), 0, job.text())
            self.assertIn("no journal is kept", job.text())
            self.assertEqual(list(self.folder.glob("*.journal")), [])


if __name__ == "__main__":
    LIBRARY = os.path.abspath(sys.argv.pop(2))
    main()
