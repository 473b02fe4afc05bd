#!/usr/bin/env python3
"""Writes configs/demo-rows: data-wrangling rows for the demo model, and their known answers.

usage: make_demo_rows.py [--rows-per-task 300] [--seed 20251] [--output-dir configs/demo-rows]

The same arguments give the same bytes on every machine.
"""
import argparse
import json
import pathlib
import random

import wrangling_tasks


def make_rows(rows_per_task, seed):
    """Returns [(request, answer)] of all tasks, shuffled; no prompt occurs twice."""
    rng = random.Random(seed)
    rows = []
    seen = set()
    for task, make_record in wrangling_tasks.TASKS.items():
        number = 0
        while number < rows_per_task:
            prompt, answer = make_record(rng)
            if prompt in seen:
                continue
            seen.add(prompt)
            custom_id = f"{task}-{number:04d}"
            rows.append(({"custom_id": custom_id, "prompt": prompt, "max_tokens": 24, "stop": ["\n"]},
                         {"custom_id": custom_id, "task": task, "answer": answer}))
            number += 1
    rng.shuffle(rows)
    return rows


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows-per-task", type=int, default=300)
    parser.add_argument("--seed", type=int, default=20251)
    parser.add_argument("--output-dir", type=pathlib.Path, default=root / "configs" / "demo-rows")
    arguments = parser.parse_args()

    rows = make_rows(arguments.rows_per_task, arguments.seed)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name, column in (("rows.jsonl", 0), ("answers.jsonl", 1)):
        with open(arguments.output_dir / name, "w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row[column]) + "\n")
    print(f"{len(rows)} rows in {arguments.output_dir}")


if __name__ == "__main__":
    main()
