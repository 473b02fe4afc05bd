#!/usr/bin/env python3
"""Reads a trace that `--trace FILE` wrote and says, for each rank and resource, how busy it was and how long its
gaps were in the steady state: from the begin of the second sweep (or from --from SECONDS) to that of the last, as the
first fills rings and after the last nothing is left to load; with two sweeps or one, to the last span.

    trace_gaps.py trace.json [--from SECONDS] [--longest N] [--around RESOURCE]

--around groups the gaps of one resource that exceed 100 us by the spans next to them.
GB/s counts the bytes moved over the time in which at least one span was open. Gaps shorter than 1 us are not counted.
"""
import argparse
import bisect
import json
from collections import defaultdict


def union(spans):
    """Sorted, disjoint (begin, end) of overlapping or touching spans."""
    merged = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return merged


def gaps(merged):
    return [(after[0] - before[1], before[1]) for before, after in zip(merged, merged[1:])]


def percentile(sorted_values, fraction):
    return sorted_values[min(len(sorted_values) - 1, int(fraction * len(sorted_values)))] if sorted_values else 0.0


def steady_state(events):
    """Begin and end. A sweep begins where the layer that is computed first is begun."""
    last = max(e["ts"] + e["dur"] for e in events)
    compute = sorted((e["ts"], e["name"]) for e in events if e["cat"] == "compute")
    if not compute:
        return min(e["ts"] for e in events), last
    first = compute[0][1]
    starts = [ts for (ts, name), before in zip(compute, [(0, "")] + compute) if name == first and before[1] != first]
    return starts[min(1, len(starts) - 1)], starts[-1] if len(starts) > 2 else last


def spell_out(spans, merged, begin, count):
    """Gaps of over 100 us by what ended before and what began after them, those that cost most first."""
    by_end = sorted(spans, key=lambda e: e["ts"] + e["dur"])
    ends = [e["ts"] + e["dur"] for e in by_end]
    by_start = sorted(spans, key=lambda e: e["ts"])
    starts = [e["ts"] for e in by_start]
    kinds = defaultdict(list)
    for length, at in gaps(merged):
        if length >= 100.0:
            before = by_end[bisect.bisect_right(ends, at + 0.5) - 1]["name"]
            after = by_start[bisect.bisect_left(starts, at + length - 0.5)]["name"]
            kinds[before, after].append((length, at))
    total = sum(length for found in kinds.values() for length, _ in found)
    print(f"  {sum(map(len, kinds.values()))} gaps of {spans[0]['cat']} exceed 100 us, {total / 1e3:.3f} ms in all")
    for (before, after), found in sorted(kinds.items(), key=lambda kind: -sum(length for length, _ in kind[1]))[:count]:
        length, at = max(found)
        print(f"    {len(found):5} after {before}, before {after}: up to {length:.0f} us, at {(at - begin) / 1e6:.4f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--from", dest="begin", type=float, help="seconds from the trace's first event")
    parser.add_argument("--longest", type=int, default=3)
    parser.add_argument("--around", metavar="RESOURCE")
    options = parser.parse_args()
    with open(options.trace) as file:
        document = json.load(file)
    events = document["traceEvents"] if isinstance(document, dict) else document
    by_rank = defaultdict(list)
    for event in events:
        if event.get("ph") == "X":
            by_rank[event["pid"]].append(event)
    for rank, own in sorted(by_rank.items()):
        origin = min(e["ts"] for e in own)
        begin, end = steady_state(own)
        if options.begin is not None:
            begin = origin + options.begin * 1e6
        print(f"rank {rank}: {(end - begin) / 1e6:.3f} s of steady state from {(begin - origin) / 1e6:.3f} s")
        print(f"  {'resource':12} {'busy':>6} {'GB/s':>7} {'spans':>7} {'gaps':>6} {'median':>9} {'99 %':>9}  longest (at s)")
        for resource in sorted({e["cat"] for e in own}):
            spans = [e for e in own if e["cat"] == resource and begin <= e["ts"] < end]
            if not spans:
                continue
            merged = union((e["ts"], e["ts"] + e["dur"]) for e in spans)
            busy = sum(until - since for since, until in merged)
            moved = sum(e["args"]["bytes"] for e in spans)
            found = sorted((g for g in gaps(merged) if g[0] >= 1.0), reverse=True)
            lengths = sorted(g[0] for g in found)
            longest = ", ".join(f"{length:.0f} us ({(at - begin) / 1e6:.2f})" for length, at in found[: options.longest])
            print(f"  {resource:12} {busy / (end - begin):6.1%} {moved / max(busy, 1e-9) / 1e3:7.1f} {len(spans):7} "
                  f"{len(found):6} {percentile(lengths, 0.5):6.0f} us {percentile(lengths, 0.99):6.0f} us  {longest}")
            if resource == options.around:
                spell_out(spans, merged, begin, 4 * options.longest)


if __name__ == "__main__":
    main()
