#!/usr/bin/env python3
"""FlexGen's cases on T4s (Sheng et al. 2023, tables 2 to 4 and the repository's benchmark scripts), planned from public figures
alone: what is planned, FlexGen's own policy by the same model, and what FlexGen published.

usage: paper_cases.py PROGRAM > benchmark/results/plans_t4.md
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
T4 = ROOT / "configs" / "clusters" / "t4-n1.json"
LOSSY = ["--compress-weight", "--compress-cache"]
# model, ranks, form, rows of FlexGen's block, its policy (None: not stated), published tokens/s
CASES = [
    ("opt-6.7b", 1, "fp16", 2, "--percent 100 0 100 0 100 0 --gpu-batch-size 2 --num-gpu-batches 1", 25.26),
    ("opt-30b", 1, "fp16", 144, "--percent 20 80 0 100 0 100 --gpu-batch-size 48 --num-gpu-batches 3 --cpu-cache-compute", 7.32),
    ("opt-175b", 1, "fp16", 256, "--percent 0 50 0 0 0 100 --gpu-batch-size 32 --num-gpu-batches 8", 0.69),
    ("opt-6.7b", 1, "4 bits", 72, None, 29.12),
    ("opt-30b", 1, "4 bits", 512, None, 8.38),
    ("opt-175b", 1, "4 bits", 144, None, 1.12),
    ("opt-30b", 4, "fp16", 576, None, 23.6),
    ("opt-175b", 4, "fp16", 1024, None, 2.33),
]


def planned(program, model, ranks, form, rows, *options):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "plan.json"
        words = [program, "plan", "--model", model, "--profiles", f"{T4}*{ranks}", "--prompt-len", 512, "--gen-len", 32,
                 "--num-rows", rows, "--quiet", "--report", report, *(LOSSY if form != "fp16" else []), *options]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if not report.exists():
            sys.exit(done.stderr)
        return json.loads(report.read_text())


def figure(way):
    return f"{way['tokens_per_second']:.3g}"


def flags(way):
    words = way["ranks"][0]["flags"].split(" --dtype")[0]
    return f"`{words}`" + (f", slices {','.join(str(rank['num_decoder_layers']) for rank in way['ranks'])}"
                           if len(way["ranks"]) > 1 else "")


def main():
    program = sys.argv[1]
    print("| case | FlexGen published | its block planned anew | 1,000 rows planned | plan for 1,000 rows | binds |")
    print("|---|---|---|---|---|---|")
    explained = []
    for model, ranks, form, rows, policy, published in CASES:
        same = planned(program, model, ranks, form, rows)["ways"][0]
        report = planned(program, model, ranks, form, 1000)
        best = report["ways"][0]
        print(f"| {model}, {ranks} x T4, {form} | {published} ({rows} rows) | {figure(same)} | {figure(best)} | {flags(best)} | "
              f"{best['binding_resource']} |")
        if policy:
            explained.append((model, form, rows, policy, published,
                              planned(program, model, ranks, form, rows, "--explain", *policy.split())["explained"][0]))
    print("\n| FlexGen's policy | by our model | published |\n|---|---|---|")
    for model, form, rows, policy, published, told in explained:
        by_model = figure(told["way"][0]) if told["way"] else "does not fit: " + told["misfit"].splitlines()[0]
        if not told["way"]:
            by_model += f"; nearest `{told['nearest'].split(' --dtype')[0]}`"
        print(f"| {model} {form}, {rows} rows: `{policy}` | {by_model} | {published} |")


if __name__ == "__main__":
    main()
