#!/usr/bin/env python3
"""Compares a demo job's results with the known answers, and sums up the job's report.

usage: score_demo.py RESULTS ANSWERS REPORT

Exits 1 when a row has no result, more than one, or an error. Standard library only.
"""
import json
import sys


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def completion_text(result):
    """The text of a plain result, or None for a row that failed."""
    return None if result.get("error") else result.get("text")


def score(results, answers):
    """Returns {task: [right, rows]} and the custom_ids without exactly one good result."""
    texts = {}
    for result in results:
        texts.setdefault(result["custom_id"], []).append(completion_text(result))
    tasks = {}
    broken = []
    for answer in answers:
        got = texts.get(answer["custom_id"], [])
        if len(got) != 1 or got[0] is None:
            broken.append(answer["custom_id"])
        tally = tasks.setdefault(answer["task"], [0, 0])
        tally[0] += len(got) == 1 and got[0] is not None and got[0].strip() == answer["answer"]
        tally[1] += 1
    return tasks, broken


def mebibytes(count):
    return f"{count / 2**20:9.2f} MiB"


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    results, answers = read_rows(sys.argv[1]), read_rows(sys.argv[2])
    with open(sys.argv[3], encoding="utf-8") as file:
        report = json.load(file)

    tasks, broken = score(results, answers)
    print("accuracy")
    for task, (right, rows) in sorted(tasks.items()):
        print(f"  {task:<12} {right:4d} of {rows:4d}  {100 * right / rows:6.1f} %")
    print(f"devices        {', '.join(sorted({rank['device'] for rank in report['ranks']}))}")
    print(f"throughput     {report['throughput']['tokens_per_second']:.1f} generated tokens/s")
    print(f"bytes per tier {'requested':>13} {'achieved':>13}")
    for tier in ("gpu", "dram", "ssd"):
        amounts = report["tiers"][tier]
        print(f"  {tier:<12} {mebibytes(amounts['requested_bytes'])} {mebibytes(amounts['achieved_bytes'])}")
    if broken:
        sys.exit(f"{len(broken)} rows lack exactly one good result, e.g. {broken[0]}")


if __name__ == "__main__":
    main()
