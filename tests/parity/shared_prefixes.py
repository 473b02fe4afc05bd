#!/usr/bin/env python3
"""Runs rows of one instruction, with and without --prefix-sharing, and compares what they generate.

usage: shared_prefixes.py --binary FILE CASE ...       exits 1 unless all cases are as they must be

A case is "RANKS B K wg wc cg cc hg hc [FLAG ...]", for example "2 7 3 0 50 0 50 0 50". The rows are demo rows behind an
instruction of 200 words, some behind two examples more, some alone. Every row must have the text and the token ids that
it has without sharing; the report must say that prompts were shared in the one run and none in the other, and count all
of their tokens. Standard library only.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
INSTRUCTION = " ".join(f"Rule {n}: answer with what the text says, and with nothing else." for n in range(1, 18)) + " "


def make_rows(path):
    with open(PROJECT / "configs" / "demo-rows" / "rows.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(120), file)]
    examples = [" ".join(row["prompt"] for row in rows[first:first + 2]) + " " for first in (0, 2, 4)]
    with open(path, "w", encoding="utf-8") as file:
        for n, row in enumerate(rows):
            front = ["", INSTRUCTION, INSTRUCTION + examples[n // 3 % 3]][n % 3]
            file.write(json.dumps(dict(row, prompt=front + row["prompt"], max_tokens=8)) + "\n")
    return len(rows)


def generate(binary, case, sharing):
    """Results by row id and the report of one run."""
    ranks, b, k, *rest = case.split()
    with tempfile.TemporaryDirectory(prefix="flexgen-shared-") as name:
        folder = pathlib.Path(name)
        num_rows = make_rows(folder / "rows.jsonl")
        command = [str(PROJECT / "launch" / "mpirun.sh"), "-n", ranks] if int(ranks) > 1 else []
        command += [binary, "generate", "--model", str(PROJECT / "configs" / "demo-model"), "--input",
                    str(folder / "rows.jsonl"), "--output", str(folder / "out.jsonl"), "--return-token-ids", "--device",
                    "cpu", "--dtype", "float32", "--gpu-batch-size", b, "--num-gpu-batches", k, "--percent", *rest[:6],
                    *rest[6:], "--prefix-sharing", sharing, "--offload-dir", str(folder / "offload"), "--report",
                    str(folder / "report.json"), "--log-level", "warn"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-4000:]}")
        with open(folder / "out.jsonl", encoding="utf-8") as file:
            results = {result["custom_id"]: result for result in map(json.loads, file)}
        with open(folder / "report.json", encoding="utf-8") as file:
            report = json.load(file)
    if len(results) != num_rows:
        raise RuntimeError(f"{num_rows} rows gave {len(results)} results")
    return results, report


def check(binary, case):
    """Tokens of prompts that were saved."""
    shared, report = generate(binary, case, "true")
    alone, other_report = generate(binary, case, "false")
    for row, result in alone.items():
        for key in ("text", "token_ids", "finish_reason", "usage"):
            if shared[row].get(key) != result.get(key):
                raise RuntimeError(f"{row}: {key} {shared[row].get(key)}, without sharing {result.get(key)}")
    sweeps, others = report["sweeps"], other_report["sweeps"]
    if others["saved_prompt_tokens"] != 0 or others["computed_prompt_tokens"] != report["job"]["prompt_tokens"]:
        raise RuntimeError(f"without sharing: {others}")
    if sweeps["computed_prompt_tokens"] + sweeps["saved_prompt_tokens"] != report["job"]["prompt_tokens"]:
        raise RuntimeError(f"not all tokens of the prompts were counted: {sweeps}")
    if sweeps["saved_prompt_tokens"] * 3 < report["job"]["prompt_tokens"]:
        raise RuntimeError(f"little was shared: {sweeps}")
    return sweeps["saved_prompt_tokens"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--binary", default="flexgen-dist")
    parser.add_argument("cases", nargs="+")
    arguments = parser.parse_args()
    failed = 0
    for case in arguments.cases:
        try:
            print(f"{case:45}  {check(os.path.abspath(arguments.binary), case)} tokens saved", flush=True)
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            failed += 1
            print(f"{case:45}  FAULT: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
