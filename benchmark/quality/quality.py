#!/usr/bin/env python3
"""What compression costs: perplexity of the demo model on a book, and its accuracy on tasks with known answers.

usage: quality.py --binary FILE [--quick] [--check] [--output FILE.md] [-- FLAG ...]

Every policy scores tests/parity/data/alice.txt (white space collapsed, windows of 512 tokens at stride 511, the first
20,951 predictions: transformers gives 63.29) and answers the rows of tests/parity/data/greedy.jsonl that have an answer
(the model knows them all) and those of configs/demo-rows. Flags behind -- go to every run, for example --device cuda
--dtype float16. --check: exits 1 when a limit below is passed. --quick, for a test: the three policies that have
limits, and no demo rows. Standard library only.
"""
import argparse
import collections
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = PROJECT / "tests" / "parity" / "data"
MODEL = PROJECT / "configs" / "demo-model"
PREDICTIONS = 20951

Policy = collections.namedtuple("Policy", "name flags")
WEIGHTS = ["--compress-weight", "--weight-bits"]
CACHE = ["--compress-cache", "--cache-bits"]
POLICIES = [
    Policy("uncompressed", []),
    Policy("8-bit weights", WEIGHTS + ["8"]),
    Policy("8-bit cache", CACHE + ["8"]),
    Policy("8-bit both", WEIGHTS + ["8"] + CACHE + ["8"]),
    Policy("4-bit weights", WEIGHTS + ["4"]),
    Policy("4-bit cache", CACHE + ["4"]),
    Policy("4-bit both", WEIGHTS + ["4"] + CACHE + ["4"]),
]
# Most that perplexity may rise over 63.2875 (percent), most that accuracy may lose (points).
LIMITS = {"uncompressed": (0.01, 0.0), "8-bit both": (0.2, 1.0), "4-bit both": (3.0, 1.0)}


def run(arguments, command, folder, words):
    report = folder / "report.json"
    line = [os.path.abspath(arguments.binary), command, "--model", str(MODEL), "--overwrite", "--report", str(report),
            "--gpu-batch-size", "32", "--num-gpu-batches", "1", "--offload-dir", str(folder / "offload"),
            "--log-level", "warn"]
    if not arguments.flags:
        line += ["--device", "cpu", "--dtype", "float32"]
    done = subprocess.run(line + words + arguments.flags, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(line + words)}\nexit code {done.returncode}\n{done.stdout[-4000:]}")
    with open(report, encoding="utf-8") as file:
        return json.load(file)


def perplexity(arguments, policy, folder):
    report = run(arguments, "score", folder,
                 ["--text", str(DATA / "alice.txt"), "--collapse-whitespace", "--window", "512", "--stride", "511",
                  "--max-tokens", str(PREDICTIONS)] + policy.flags)
    if report["score"]["tokens"] != PREDICTIONS:
        sys.exit(f"{report['score']['tokens']} predictions were counted, not {PREDICTIONS}")
    return report["score"]["perplexity"]


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def questions(quick):
    """Rows with set, id, prompt and answer."""
    for row in read_rows(DATA / "greedy.jsonl"):
        if row["answer"] is not None:
            yield dict(row, set="reference rows")
    if quick:
        return
    answers = {row["custom_id"]: row for row in read_rows(PROJECT / "configs" / "demo-rows" / "answers.jsonl")}
    for row in read_rows(PROJECT / "configs" / "demo-rows" / "rows.jsonl"):
        answer = answers[row["custom_id"]]
        yield {"set": f"demo: {answer['task']}", "id": "demo-" + row["custom_id"], "prompt": row["prompt"],
               "answer": answer["answer"]}


def accuracy(arguments, policy, folder, references):
    """Percent of right answers by set, and over all."""
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
        for row in references:
            file.write(json.dumps({"custom_id": row["id"], "prompt": row["prompt"], "max_tokens": 24, "stop": ["\n"]}) + "\n")
    run(arguments, "generate", folder,
        ["--input", str(folder / "rows.jsonl"), "--output", str(folder / "out.jsonl")] + policy.flags)
    texts = {result["custom_id"]: result["text"] for result in read_rows(folder / "out.jsonl")}
    right, total = collections.Counter(), collections.Counter()
    for row in references:
        for name in (row["set"], "all"):
            total[name] += 1
            right[name] += texts[row["id"]].strip() == row["answer"].strip()
    return {name: 100 * right[name] / total[name] for name in total}


def table(measured):
    base = measured[0][1]
    sets = sorted((name for name in measured[0][2] if name != "all"), reverse=True)
    yield f"| policy | perplexity | change | all rows right | {' | '.join(sets)} |"
    yield "|---" * (4 + len(sets)) + "|"
    for policy, figure, right in measured:
        columns = " | ".join(f"{right[name]:.2f} %" for name in sets)
        change = 100 * (figure / base - 1)
        yield f"| {policy.name} | {figure:.2f} | {change:+.2f} % | {right['all']:.2f} % | {columns} |"


def faults(measured, reference):
    base_accuracy = measured[0][2]["all"]
    for policy, figure, right in measured:
        if policy.name not in LIMITS:
            continue
        most_percent, most_points = LIMITS[policy.name]
        change = 100 * (figure / reference - 1)
        if change > most_percent or (policy.name == "uncompressed" and change < -most_percent):
            yield f"{policy.name}: perplexity {figure:.4f} is {change:+.2f} % from {reference:.4f}"
        if base_accuracy - right["all"] > most_points:
            yield f"{policy.name}: accuracy {right['all']:.1f} %, uncompressed {base_accuracy:.1f} %"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--binary", default=str(PROJECT / "build" / "flexgen-dist"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()
    references = list(questions(arguments.quick))
    with open(DATA / "card.json", encoding="utf-8") as file:
        reference = json.load(file)["alice_perplexity"]
    measured = []
    for policy in POLICIES:
        if arguments.quick and policy.name not in LIMITS:
            continue
        with tempfile.TemporaryDirectory(prefix="flexgen-quality-") as name:
            folder = pathlib.Path(name)
            figure = perplexity(arguments, policy, folder)
            measured.append((policy, figure, accuracy(arguments, policy, folder, references)))
    lines = list(table(measured))
    print("\n".join(lines))
    if arguments.output:
        flags = " ".join(arguments.flags) or "--device cpu --dtype float32"
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(TEXT.format(reference=reference, predictions=PREDICTIONS, rows=len(references), flags=flags,
                                   machine=platform.machine(), cores=os.cpu_count(), table="\n".join(lines)))
    found = list(faults(measured, reference)) if arguments.check else []
    for fault in found:
        print(f"FAULT {fault}")
    sys.exit(1 if found else 0)


TEXT = """# What compression costs

Perplexity of `configs/demo-model` on a book that it has not seen (`tests/parity/data/alice.txt`, white space collapsed,
windows of 512 tokens at stride 511, {predictions:,} predictions; transformers in float32: {reference:.4f}), and its
answers to {rows:,} rows: those of `tests/parity/data/greedy.jsonl` that have an answer, and `configs/demo-rows`. Groups of
64; `{flags}` ({cores} cores, {machine}).

{table}

Limits that `benchmark/quality/quality.py --quick --check` holds as a test: 8 bits within 0.2 %, 4 bits within 3 %,
accuracy within one point of the uncompressed model's.

    benchmark/quality/quality.py --binary build/flexgen-dist --output benchmark/results/quality.md
"""

if __name__ == "__main__":
    main()
