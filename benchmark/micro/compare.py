#!/usr/bin/env python3
"""Compares two runs of a micro-benchmark, each op relative to the ceiling measured in the same run.

usage: compare.py BASELINE.json NEW.json [--threshold FRACTION]   exits 1 when an op lost more than that (default 0.1)
       compare.py --summarise RUN.json                            prints RUN as a small file fit to be a BASELINE

A run is what --benchmark_out=FILE --benchmark_out_format=json writes, with or without repetitions, or a summary of
it. An op's label names its ceilings, that of bytes_per_second first, then that of items_per_second; its fraction is
the larger of the two rates over their ceilings. Of repetitions the fastest counts. Standard library only.
"""
import argparse
import json
import sys

SUFFIXES = ("/real_time", "/manual_time", "/process_time")
RATES = ("bytes_per_second", "items_per_second")
NANOSECONDS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


def name_of(entry):
    name = entry.get("run_name", entry["name"])
    for suffix in SUFFIXES:
        name = name.replace(suffix, "")
    return "/".join(part for part in name.split("/") if not part.startswith(("iterations:", "repeats:")))


def fastest(entries):
    """The fastest repetition of each op: {name: entry}, in order of first appearance."""
    best = {}
    for entry in entries:
        if entry.get("run_type") == "aggregate" or entry.get("error_occurred"):
            continue
        name = name_of(entry)
        if name not in best or entry["real_time"] < best[name]["real_time"]:
            best[name] = entry
    return best


def fraction_of_ceiling(entry, best):
    """None for an op without a ceiling, or whose ceiling was not measured."""
    fractions = []
    for ceiling, rate in zip(entry.get("label", "").split(), RATES):
        limit = best.get(ceiling, {}).get(rate)
        if limit and rate in entry:
            fractions.append(entry[rate] / limit)
    return max(fractions) if fractions else None


def summarise(run):
    """{name: {name, microseconds, rate, fraction}}; a rate is in GB/s, else in 10^9 items/s."""
    if "ops" in run:
        return {op["name"]: op for op in run["ops"]}
    best = fastest(run["benchmarks"])
    summary = {}
    for name, entry in best.items():
        op = {"name": name, "microseconds": entry["real_time"] * NANOSECONDS[entry["time_unit"]] / 1e3}
        rates = [entry[rate] / 1e9 for rate in RATES if entry.get(rate)]
        if rates:
            op["rate"] = rates[0]
        fraction = fraction_of_ceiling(entry, best)
        if fraction is not None:
            op["fraction"] = fraction
        summary[name] = op
    return summary


def as_file(summary):
    lines = []
    for op in summary.values():
        rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in op.items()}
        lines.append("  " + json.dumps(rounded))
    return '{"ops": [\n' + ",\n".join(lines) + "\n]}\n"


def compare(baseline, new, threshold):
    """Returns the lines of a table, and the names of ops that lost more than `threshold` of their former fraction."""
    lines = [f"{'op':40} {'baseline':>10} {'new':>10} {'of ceiling':>18}   change"]
    lost = []
    for name, op in new.items():
        old = baseline.get(name)
        if old is None:
            lines.append(f"{name:40} {'':>10} {op['microseconds']:>8.1f}us {'':>18}   new")
            continue
        line = f"{name:40} {old['microseconds']:>8.1f}us {op['microseconds']:>8.1f}us"
        if "fraction" in old and "fraction" in op:
            change = op["fraction"] / old["fraction"] - 1.0
            line += f" {old['fraction']:>7.1%} -> {op['fraction']:>7.1%}   {change:+.1%}"
            if change < -threshold:
                line += "  LOST"
                lost.append(name)
        lines.append(line)
    lines += [f"{name:40} not in the new run" for name in baseline if name not in new]
    return lines, lost


def load(path):
    with open(path, encoding="utf-8") as file:
        return summarise(json.load(file))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN.json")
    parser.add_argument("--threshold", type=float, default=0.1)
    parser.add_argument("--summarise", action="store_true")
    options = parser.parse_args()
    if len(options.runs) != (1 if options.summarise else 2):
        parser.error("wrong number of files")
    if options.summarise:
        sys.stdout.write(as_file(load(options.runs[0])))
        return 0
    lines, lost = compare(load(options.runs[0]), load(options.runs[1]), options.threshold)
    print("\n".join(lines))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
