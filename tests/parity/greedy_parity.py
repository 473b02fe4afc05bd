#!/usr/bin/env python3
"""Runs the rows of data/greedy.jsonl through flexgen-dist and compares every token with what transformers chose.

usage: greedy_parity.py --binary FILE CASE ...     one run per case; exits 1 unless all rows of all cases are equal
       greedy_parity.py --binary FILE --matrix     every combination of placement, B x K, overlap and ranks: a table
       greedy_parity.py --cover CASE ...           runs nothing; exits 1 unless the cases cover every pair of values
       greedy_parity.py --binary FILE --agree CASE ...   for compressed policies: exits 1 unless all cases give the same
                                                   tokens, and those of the reference in at least 95 % of the rows

A case is "RANKS B K OVERLAP wg wc cg cc hg hc [OPTION ...]", for example "4 7 3 on 0 50 0 50 0 50".

Beside the tokens (and the prompts' tokens), a run's report and trace are checked: each tensor class lies on each tier
as asked for, within 2 % of the class; no byte is lost; the trace is valid JSON that names every resource of every rank;
every stage has computed. Standard library only.
"""
import argparse
import collections
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
RESOURCES = {"compute", "host_attention", "host_to_gpu", "gpu_to_host", "gpu_copy", "disk_read", "disk_write", "send", "recv"}
NEW_TOKENS = 64  # the reference stopped here or at the end-of-sequence token

PERCENTS = ["100 0 100 0 100 0", "20 80 0 100 0 100", "0 50 0 50 0 50", "0 0 0 0 0 0"]
BATCHES = [(1, 1), (7, 3), (64, 2)]
OVERLAPS = ["on", "off"]
RANKS = [1, 2, 4, 3]

Case = collections.namedtuple("Case", "ranks b k overlap percent options", defaults=((),))


def parse_case(text):
    words = text.split()
    if len(words) < 10 or words[3] not in OVERLAPS:
        sys.exit(f"not a case: '{text}'\n{__doc__}")
    return Case(int(words[0]), int(words[1]), int(words[2]), words[3], " ".join(words[4:10]), tuple(words[10:]))


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def run(binary, case, references, folder):
    """Runs one case; returns its results by row id, its report and its trace."""
    rows, out = folder / "rows.jsonl", folder / "out.jsonl"
    report, trace = folder / "report.json", folder / "trace.json"
    with open(rows, "w", encoding="utf-8") as file:
        for row in references:
            file.write(json.dumps({"custom_id": row["id"], "prompt": row["prompt"], "max_tokens": NEW_TOKENS}) + "\n")
    command = [str(PROJECT / "launch" / "mpirun.sh"), "-n", str(case.ranks)] if case.ranks > 1 else []
    command += [binary, "generate", "--model", str(PROJECT / "configs" / "demo-model"), "--input", str(rows),
                "--output", str(out), "--overwrite", "--return-token-ids", "--device", "cpu", "--dtype", "float32",
                "--percent", *case.percent.split(), "--gpu-batch-size", str(case.b), "--num-gpu-batches", str(case.k),
                "--overlap", "true" if case.overlap == "on" else "false", "--offload-dir", str(folder / "offload"),
                "--report", str(report), "--trace", str(trace), "--log-level", "warn", *case.options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-4000:]}")
    results = {}
    for result in read_rows(out):
        if result["custom_id"] in results:
            raise RuntimeError(f"row {result['custom_id']} has two results")
        results[result["custom_id"]] = result
    with open(report, encoding="utf-8") as file:
        parsed_report = json.load(file)
    with open(trace, encoding="utf-8") as file:
        return results, parsed_report, json.load(file)


def count_equal(references, results):
    equal = 0
    for row in references:
        result = results.get(row["id"], {})
        equal += result.get("prompt_token_ids") == row["prompt_ids"] and result.get("token_ids") == row["greedy_ids"]
    return equal


def placement_faults(case, report):
    """Each class on each tier within 2 % of the class's bytes, on every rank and in sum; per class nothing is lost."""
    percent = [float(word) for word in case.percent.split()]
    for where in [report] + report["ranks"]:
        tiers = where["tiers"]
        name = f"rank {where['rank']}" if "rank" in where else "all ranks"
        for index, tensor_class in enumerate(["weights", "cache", "hidden"]):
            achieved = [tiers[tier]["achieved_bytes_by_class"][tensor_class] for tier in ("gpu", "dram", "ssd")]
            asked = [tiers[tier]["requested_bytes_by_class"][tensor_class] for tier in ("gpu", "dram", "ssd")]
            total = sum(achieved)
            if total == 0 or abs(total - sum(asked)) > 3:  # each tier's request is rounded to a byte
                yield f"{name}: {tensor_class}: {achieved} placed, {asked} asked for"
            shares = percent[2 * index:2 * index + 2]
            shares.append(100 - sum(shares))
            for tier, share, bytes_there in zip(("gpu", "dram", "ssd"), shares, achieved):
                actual = 100 * bytes_there / max(1, total)
                if abs(actual - share) > 2:
                    yield f"{name}: {actual:.2f} % of the {tensor_class} on {tier}, not {share} %"
        for tier in ("gpu", "dram", "ssd"):
            if tiers[tier]["achieved_bytes"] != sum(tiers[tier]["achieved_bytes_by_class"].values()):
                yield f"{name}: the classes on {tier} do not add up"
            if tiers[tier]["peak_bytes"] < tiers[tier]["achieved_bytes"]:
                yield f"{name}: peak on {tier} below what is placed there"


def used_resources(case):
    """Resources that a run of this case cannot do without, by rank."""
    tiers = [float(word) for word in case.percent.split()]
    pairs = list(zip(tiers[::2], tiers[1::2]))
    needed = {"compute"}
    if "--cpu-cache-compute" in case.options:
        needed.add("host_attention")
    if any(dram > 0 for _, dram in pairs):
        needed.add("host_to_gpu")
    if any(gpu + dram < 100 for gpu, dram in pairs):
        needed |= {"disk_read", "disk_write"}
    for rank in range(case.ranks):
        yield needed | ({"recv"} if rank > 0 else set()) | ({"send"} if rank + 1 < case.ranks else set())


def trace_faults(case, report, trace):
    named = collections.defaultdict(set)
    for event in trace["traceEvents"]:
        if event["ph"] == "M" and event["name"] == "thread_name":
            named[event["pid"]].add(event["args"]["name"])
        elif event["ph"] == "X" and event["dur"] < 0:
            yield f"event of negative length: {event}"
    for rank in range(case.ranks):
        if named[rank] != RESOURCES:
            yield f"the trace names {sorted(named[rank])} for rank {rank}"
    if len(report["ranks"]) != case.ranks:
        yield f"the report has {len(report['ranks'])} ranks"
    for entry, needed in zip(report["ranks"], used_resources(case)):
        idle = [name for name in sorted(needed) if entry["resources"].get(name, {}).get("count", 0) == 0]
        if idle:
            yield f"rank {entry['rank']} never used {', '.join(idle)}"
        if not 0 < entry["busy_fraction"] <= 1:
            yield f"rank {entry['rank']} was busy {entry['busy_fraction']} of its time"


def check(binary, case, references):
    """Returns the tokens by row, rows that are equal, faults, seconds, and the busy fraction of each stage."""
    with tempfile.TemporaryDirectory(prefix="flexgen-parity-") as name:
        try:
            results, report, trace = run(binary, case, references, pathlib.Path(name))
        except (RuntimeError, OSError, ValueError) as error:
            return {}, 0, [str(error)], 0.0, []
    faults = list(placement_faults(case, report)) + list(trace_faults(case, report, trace))
    busy = [entry["busy_fraction"] for entry in report["ranks"]]
    tokens = {name: result.get("token_ids") for name, result in results.items()}
    return tokens, count_equal(references, results), faults, report["timing"]["total_seconds"], busy


def all_cases():
    for percent, (b, k), overlap, ranks in itertools.product(PERCENTS, BATCHES, OVERLAPS, RANKS):
        yield Case(ranks, b, k, overlap, percent)


def missing_pairs(cases):
    """Pairs of values of two settings that no case has together."""
    names = ["placement", "B x K", "overlap", "ranks"]
    settings = [PERCENTS, BATCHES, OVERLAPS, RANKS]
    values = [(case.percent, (case.b, case.k), case.overlap, case.ranks) for case in cases]
    for i, j in itertools.combinations(range(len(settings)), 2):
        met = {(value[i], value[j]) for value in values}
        for pair in set(itertools.product(settings[i], settings[j])) - met:
            yield f"no case has {names[i]} {pair[0]} with {names[j]} {pair[1]}"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--binary", default="flexgen-dist")
    parser.add_argument("--matrix", action="store_true")
    parser.add_argument("--cover", action="store_true")
    parser.add_argument("--agree", action="store_true")
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    cases = list(all_cases()) if arguments.matrix else [parse_case(text) for text in arguments.cases]
    if not cases:
        sys.exit(__doc__)
    if arguments.cover:
        missing = list(missing_pairs(cases))
        sys.exit("\n".join(missing) if missing else 0)
    references = read_rows(HERE / "data" / "greedy.jsonl")
    failed, first = 0, None
    print("percent            B  K  overlap  ranks  equal    seconds  busy fraction of the stages", flush=True)
    for case in cases:
        tokens, equal, faults, seconds, busy = check(os.path.abspath(arguments.binary), case, references)
        good = equal == len(references) and not faults
        if arguments.agree:
            first = first or tokens
            unlike = [name for name in sorted(first) if tokens.get(name) != first[name]]
            if unlike:
                faults.append(f"{len(unlike)} rows differ from the first case's: {', '.join(unlike[:5])}")
            good = equal >= 0.95 * len(references) and not faults
        failed += not good
        print(f"{case.percent:17} {case.b:2} {case.k:2}  {case.overlap:7}  {case.ranks:5}  {equal}/{len(references)}  "
              f"{seconds:7.1f}  {' '.join(f'{fraction:.2f}' for fraction in busy)}  {' '.join(case.options)}", flush=True)
        for fault in faults:
            print(f"    FAULT {fault}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} cases are as they must be")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
