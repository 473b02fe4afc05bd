#!/usr/bin/env python3
"""A job that is killed again and again, against one that is not, with a model of real size: the same bytes?

usage: real_size.py FLEXGEN-DIST --model DIR [--rows N] [--kills N] [--ranks N] [-- OPTION ...]

--model is a folder as end_to_end/make_checkpoint.py makes it (configs/models/opt-125m, with the tokenizer of tests/data).
Rows are passages of a book; every second one is drawn at temperature 1. The first job runs to its end. The second one's
ranks are killed with SIGKILL, one at a time and each time another one, when so many rows more are done; the same command
goes on. Prints a table and compares the results, line by line; ends with 1 where they differ.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "faults"))
from fault_case import children  # noqa: E402

BOOK = ROOT / "tests" / "parity" / "data" / "alice.txt"
WORDS_A_ROW = 50


def write_rows(path, count):
    words = BOOK.read_text(encoding="utf-8").split()
    with open(path, "w", encoding="utf-8") as file:
        for i in range(count):
            at = i * WORDS_A_ROW % (len(words) - WORDS_A_ROW)
            row = {"custom_id": f"passage-{i}", "prompt": " ".join(words[at:at + WORDS_A_ROW]), "max_tokens": 8 + i * 7 % 25}
            file.write(json.dumps(row | ({"temperature": 1} if i % 2 else {})) + "\n")


class Job:
    def __init__(self, words, folder, name):
        self.rows, self.folder, self.output = words.rows, folder, folder / (name + ".jsonl")
        launcher = [str(ROOT / "launch" / "mpirun.sh"), "-n", str(words.ranks)] if words.ranks > 1 else []
        self.ranks = words.ranks
        self.command = [*launcher, str(pathlib.Path(words.program).resolve()), "generate", "--model", words.model, "--input",
                        str(folder / "rows.jsonl"), "--output", str(self.output), "--device", "cpu", "--offload-dir",
                        str(folder / "offload"), "--quiet", *words.options]

    def num_done(self):
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    def run(self, kill_at=None, victim=0):
        """Until `kill_at` rows are done, or all. Returns what happened, rows at the begin and end, seconds."""
        before, begin = self.num_done(), time.monotonic()
        log = self.folder / "log"
        with open(log, "wb") as text:
            process = subprocess.Popen(self.command, stdout=text, stderr=text)
        while process.poll() is None and (kill_at is None or self.num_done() < kill_at):
            time.sleep(0.05)
        if process.poll() is None:
            pids = children(process.pid) if self.ranks > 1 else {0: process.pid}
            os.kill(pids[victim], signal.SIGKILL)
            process.wait()
            what = f"SIGKILL of rank {victim}"
        elif process.returncode == 0:
            what = "to its end"
        else:
            sys.exit(f"the job failed:\n{log.read_text()}")
        return what, before, self.num_done(), time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    words = parser.parse_args(sys.argv[1:end])
    words.options = sys.argv[end + 1:]  # of the program
    with tempfile.TemporaryDirectory(prefix="flexgen-journal-") as name:
        folder = pathlib.Path(name)
        (folder / "offload").mkdir()
        write_rows(folder / "rows.jsonl", words.rows)
        whole, killed = Job(words, folder, "whole"), Job(words, folder, "killed")
        print("| job | run | rows at its begin | at its end | s |\n|---|---|---|---|---|")

        def show(job, run):
            what, before, after, seconds = run
            print(f"| {job} | {what} | {before} | {after} | {seconds:.1f} |", flush=True)
            return seconds

        show("uninterrupted", whole.run())
        total = 0
        for kill in range(words.kills):
            at = words.rows * (kill + 1) // (words.kills + 1)
            total += show("killed", killed.run(at, kill % words.ranks))
        total += show("killed", killed.run())
        same = sorted(whole.output.read_bytes().splitlines()) == sorted(killed.output.read_bytes().splitlines())
        count = killed.num_done()
        left = os.listdir(folder / "offload")
        print(f"\nkilled: {total:.1f} s in all; {count} lines of {words.rows}; {'the same bytes' if same else 'OTHER BYTES'}; "
              f"{len(left)} files left in the offload folder")
        sys.exit(0 if same and count == words.rows and not left else 1)


if __name__ == "__main__":
    main()
