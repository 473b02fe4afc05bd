#!/usr/bin/env python3
"""Scores the texts of data/scores.jsonl with flexgen-dist and compares every log-probability with transformers'.

usage: score_parity.py --binary FILE CASE ...       exits 1 unless all cases are as they must be

A case is "RANKS B K wg wc cg cc hg hc [FLAG ...]", for example "4 7 3 0 50 0 50 0 50" or
"2 7 3 100 0 100 0 100 0 --compress-cache". Without flags, float32 scores lie within 1e-4 of the reference, whole and in
windows that overlap (there the first window's). With flags (compression), where no reference exists, they lie within
1e-4 of those of one rank with everything on the gpu tier. Beside the good rows stand bad ones: each has one result row,
an error, and the program says 1. Standard library only.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
TOLERANCE = 1e-4
WINDOW, STRIDE = 24, 16
BAD_ROWS = ['{"custom_id": "bad-id", "prompt": [2, 4096]}', '{"custom_id": "bad-json"', '{"custom_id": "bad-empty"}']


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def score(binary, case, references, more=()):
    """Results by row id and the report of one run."""
    ranks, b, k, *rest = case.split()
    with tempfile.TemporaryDirectory(prefix="flexgen-score-") as name:
        folder = pathlib.Path(name)
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            for row in references:
                file.write(json.dumps({"custom_id": row["id"], "prompt": row["ids"]}) + "\n")
            file.write("\n".join(BAD_ROWS) + "\n")
        command = [str(PROJECT / "launch" / "mpirun.sh"), "-n", ranks] if int(ranks) > 1 else []
        command += [binary, "score", "--model", str(PROJECT / "configs" / "demo-model"), "--input",
                    str(folder / "rows.jsonl"), "--output", str(folder / "out.jsonl"), "--return-token-ids", "--device",
                    "cpu", "--dtype", "float32", "--gpu-batch-size", b, "--num-gpu-batches", k, "--percent", *rest[:6],
                    *rest[6:], *more, "--offload-dir", str(folder / "offload"), "--report",
                    str(folder / "report.json"), "--log-level", "warn"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 1:  # some rows failed
            raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-4000:]}")
        results = read_rows(folder / "out.jsonl")
        with open(folder / "report.json", encoding="utf-8") as file:
            report = json.load(file)
    by_id = {result["custom_id"]: result for result in results}
    if len(by_id) != len(results) or len(results) != len(references) + len(BAD_ROWS):
        raise RuntimeError(f"{len(references) + len(BAD_ROWS)} rows gave {len(results)} results")
    errors = sorted(result["custom_id"] for result in results if "error" in result)
    if len(errors) != len(BAD_ROWS):
        raise RuntimeError(f"rows with errors: {errors}")
    return by_id, report


def difference(row, result, expected, count):
    """Largest difference of a row's first `count` log-probabilities; faults of its form raise."""
    scores = result["token_logprobs"]
    if result["token_ids"] != row["ids"] or len(scores) != len(row["ids"]) or scores[0] is not None:
        raise RuntimeError(f"{row['id']}: ids or scores are not those of the row")
    if result["count"] != len(scores) - 1 or abs(result["sum"] - sum(scores[1:])) > 1e-4:
        raise RuntimeError(f"{row['id']}: sum {result['sum']} of {result['count']} scores")
    if abs(result["perplexity"] - math.exp(-result["sum"] / result["count"])) > 1e-6 * result["perplexity"]:
        raise RuntimeError(f"{row['id']}: perplexity {result['perplexity']}")
    return max(abs(got - wanted) for got, wanted in zip(scores[1:count], expected[1:count]))


def compression(flags):
    """Those of a case's flags that change its scores; a token budget does not."""
    kept = list(flags)
    if "--token-budget" in kept:
        at = kept.index("--token-budget")
        del kept[at:at + 2]
    return kept


def check(binary, case, references):
    """Largest difference of a case."""
    flags = compression(case.split()[9:])
    results, report = score(binary, case, references)
    expected = {row["id"]: row["token_logprobs"] for row in references}
    if flags:
        plain, _ = score(binary, "1 64 1 100 0 100 0 100 0 " + " ".join(flags), references)
        expected = {key: result.get("token_logprobs") for key, result in plain.items()}
    worst = max(difference(row, results[row["id"]], expected[row["id"]], len(row["ids"])) for row in references)
    total = sum(results[row["id"]]["count"] for row in references)
    if report["job"]["scored_tokens"] != total or report["score"]["tokens"] != total:
        raise RuntimeError(f"the report counts {report['job']['scored_tokens']} tokens, not {total}")
    if not flags:
        windows = ["--window", str(WINDOW), "--stride", str(STRIDE)]
        cut, _ = score(binary, case, references, windows)
        worst = max([worst] + [difference(row, cut[row["id"]], expected[row["id"]], WINDOW) for row in references])
    return worst


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--binary", default="flexgen-dist")
    parser.add_argument("cases", nargs="+")
    arguments = parser.parse_args()
    references = read_rows(HERE / "data" / "scores.jsonl")
    failed = 0
    for case in arguments.cases:
        try:
            worst = check(os.path.abspath(arguments.binary), case, references)
            fault = "" if worst <= TOLERANCE else "  FAULT: too far from the reference"
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            worst, fault = math.nan, f"  FAULT: {error}"
        failed += bool(fault)
        print(f"{case:45}  largest difference {worst:.2e}{fault}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
