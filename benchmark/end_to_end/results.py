#!/usr/bin/env python3
"""Rows of measurements: their arithmetic, which one stands for a system, merging files, the Markdown table.

usage: results.py --output peers.json [--table peers.md] FILE.json ...      merges files; later files win
"""
import argparse
import json
import os
import sys

# What makes two rows the same measurement. A go is one call of the driver, on one card; older rows name none.
KEY = ("model", "system", "policy", "output", "purpose", "device", "go")
RANK = {"ok": 4, "cut": 3, "failed": 2, "quoted": 1, "skipped": 0}


def figures(rows, steps):
    """The figures of a job of `rows` rows whose steps took `steps` seconds; each step makes one token of every row."""
    prefill, decode = steps[0], sum(steps[1:])
    tokens = rows * len(steps)
    return {
        "rows": rows,
        "output_done": len(steps),
        "prefill_seconds": prefill,
        "decode_seconds": decode,
        "tokens_per_second": tokens / (prefill + decode),
        "decode_tokens_per_second": rows * (len(steps) - 1) / decode if decode > 0 else None,
    }


def projected_seconds(row, output):
    """How long a whole job of `output` tokens might take, from a short one; only ever used to choose a candidate."""
    steps = row["output_done"] - 1
    if steps < 1:
        return row["prefill_seconds"] * output
    return row["prefill_seconds"] + row["decode_seconds"] / steps * (output - 1)


def best_candidate(rows, output):
    """The row of the candidate that promises the highest throughput in a whole job; None if none ran."""
    ran = [row for row in rows if row["status"] == "ok"]
    return max(ran, key=lambda row: row["rows"] * output / projected_seconds(row, output), default=None)


def of_repeats(answers):
    """The answer that stands for runs of the same candidate: the fastest whole one; `runs` holds the speed of each."""
    speeds = [answer["figures"]["tokens_per_second"] for answer in answers if answer["status"] == "ok"]
    best = max(answers, key=lambda answer: (RANK[answer["status"]],
                                            answer.get("figures", {}).get("tokens_per_second", 0)))
    return dict(best, runs=speeds) if speeds else best


def lacks_repeats(row):
    """Whether a row is of fewer runs than its candidate asks for: what a first run alone pays may be in it."""
    return row["status"] == "ok" and len(row.get("runs") or [0]) < row["candidate"].get("repeat", 1)


def key(row):
    return tuple(row.get(name) for name in KEY)


def merge(lists):
    """One list of rows; of equal measurements the later stands, unless it achieved less than the earlier."""
    merged = {}
    for rows in lists:
        for row in rows:
            old = merged.get(key(row))
            if old is None or RANK[row["status"]] >= RANK[old["status"]]:
                merged[key(row)] = row
    return list(merged.values())


def standing_rows(rows):
    """The row that stands for each (model, device, go, system), in order of first appearance: the fastest whole run,
    else the fastest that was cut short, else one that says why there is none. Probes of a few tokens do not stand."""
    groups = {}
    for row in rows:
        groups.setdefault((row["model"], row["device"], row.get("go"), row["system"]), []).append(row)

    def worth(row):
        if row["purpose"] != "whole" and row["status"] in ("ok", "cut"):
            return (0, 0)
        return (RANK[row["status"]], row.get("tokens_per_second") or 0)

    return [max(group, key=worth) for group in groups.values()]


def comparable(rows):
    """Rows by (model, device, go), goes of a model one after another: only rows of one group are put side by side."""
    models = {row["model"]: None for row in rows}
    groups = {(model, row["device"], row.get("go")): [] for model in models for row in rows if row["model"] == model}
    for row in rows:
        groups[row["model"], row["device"], row.get("go")].append(row)
    return groups


def when(rows):
    """When rows were measured: "2026-11-25, 03:09 to 03:21 UTC"."""
    dates = sorted(row["date"] for row in rows if row.get("date"))
    if not dates:
        return ""
    first, last = (date[:16].replace("T", ", ") for date in (dates[0], dates[-1]))
    if last == first:
        return f"{first} UTC"
    return f"{first} to {last.removeprefix(first[:12])} UTC"


def is_compressed(row):
    return row["system"].endswith("-4bit")


BATCH = ("gpu_batch_size", "num_gpu_batches", "batch", "rows", "seconds", "trace", "note", "warm_up", "repeat")


def placement(row):
    """What stays the same along a curve over the batch size."""
    candidate = {name: value for name, value in row["candidate"].items() if name not in BATCH}
    return json.dumps(candidate, sort_keys=True)


def curves(rows):
    """For each (system, placement) with whole runs, repeated as asked for: these by number of rows, of each number the
    fastest."""
    series = {}
    for row in rows:
        if row["purpose"] == "whole" and row["status"] == "ok" and not lacks_repeats(row):
            by_rows = series.setdefault((row["system"], placement(row)), {})
            old = by_rows.get(row["rows"])
            if old is None or old["tokens_per_second"] < row["tokens_per_second"]:
                by_rows[row["rows"]] = row
    return {name: [by_rows[count] for count in sorted(by_rows)] for name, by_rows in series.items()}


def number(value, digits=3):
    """Three significant digits without an exponent: 998, 42.0, 1.26."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.{digits - 1}f}"


def remark(row):
    parts = []
    if row["status"] == "cut":
        parts.append(f"stopped after {row['output_done']} of {row['output']} tokens")
    elif row["status"] == "quoted":
        parts.append(f"quoted, not run here: {row['why']}")
    elif row["status"] == "skipped":
        parts.append(f"not run: {row.get('why') or 'no time'}")
    elif row["status"] != "ok":
        parts.append(row.get("why") or row["status"])
    speeds = row.get("runs") or []
    if lacks_repeats(row):
        asked = row["candidate"]["repeat"]
        parts.append(f"{max(1, len(speeds))} of {asked} runs: includes what only a first run costs")
    elif len(speeds) > 1:
        parts.append(f"fastest of {len(speeds)} runs, {number(min(speeds))} to {number(max(speeds))}")
    if row.get("note"):
        parts.append(row["note"])
    return "; ".join(parts).replace("|", "/").replace("\n", " ")


def table(rows):
    """Markdown: a table per model, device and go, fastest first; then every other run."""
    columns = ("| system | version | policy | rows | prefill, s | decode, s | tokens/s | of roofline | GPU peak, MiB "
               "| host peak, MiB | remark |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|\n")

    def line(row):
        memory, host = row.get("peak_gpu_mib"), row.get("peak_host_mib")
        throughput = number(row.get("tokens_per_second"))
        if row["status"] == "quoted":
            throughput = f"({throughput})"
        fraction = f"{100 * row['bound_fraction']:.0f} %" if row.get("bound_fraction") else ""
        cells = [row["label"], row.get("version") or "", f"`{row['policy']}`", row.get("rows") or "",
                 number(row.get("prefill_seconds")), number(row.get("decode_seconds")), throughput, fraction,
                 f"{memory:,.0f}" if memory else "", f"{host:,.0f}" if host else "", remark(row)]
        return "| " + " | ".join(str(cell) for cell in cells) + " |\n"

    text = ""
    for (model, device, _), of_model in comparable(rows).items():
        standing = standing_rows(of_model)
        standing.sort(key=lambda row: (row["status"] == "quoted", -(row.get("tokens_per_second") or 0)))
        others = [row for row in of_model if row not in standing and row["status"] != "skipped"]
        job = of_model[0]
        memory = job["gpu_memory"].replace("GiB", " GiB")
        text += (f"## {display_name(model)}\n\n{device}; {memory} of GPU memory; prompt {job['prompt']}, "
                 f"output {job['output_whole']} tokens" + f"; {when(of_model)}".removesuffix("; ") + ".\n\n" + columns)
        text += "".join(line(row) for row in standing)
        if others:
            text += "\nOther runs:\n\n" + columns
            text += "".join(line(row) for row in others)
        text += "\n"
    return text


def display_name(model):
    family, _, size = model.partition("-")
    return f"{family.upper()}-{size.upper()}" if size else model


def write_json(path, rows):
    """Replaces the file as a whole: a run that is killed leaves a complete file."""
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(path + ".new", "w") as file:
        json.dump({"schema_version": 1, "rows": rows}, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


def read_json(path):
    with open(path) as file:
        return json.load(file)["rows"]


def write_table(path, rows):
    with open(path, "w") as file:
        file.write("# Side by side with the peers\n\nTokens/s: generated tokens / (prefill + decode seconds) of a "
                   "whole run; weights are loaded before. Random weights, random prompts, float16 unless the name says "
                   "4-bit. Of roofline: share of the bound that flexgen-dist's report computes for its policy. Each "
                   "table is of one go: its rows are not to be compared with another table's.\n\n" + table(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--output", required=True)
    parser.add_argument("--table")
    arguments = parser.parse_args()
    rows = merge(read_json(path) for path in arguments.files)
    write_json(arguments.output, rows)
    if arguments.table:
        write_table(arguments.table, rows)
    print(f"{len(rows)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
