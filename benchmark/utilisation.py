#!/usr/bin/env python3
"""How busy each resource is over a job, from `--trace` files: the share of every slice of time in which at least one
operation of a resource was under way.

usage: utilisation.py --svg FILE NAME=TRACE.json ...   a column of plots per trace, one row per resource, all on one time
                                                       axis; and the mean of every resource as a table
Standard library only.
"""
import argparse
import collections
import html
import json
import sys

RESOURCES = ["compute", "host_attention", "host_to_gpu", "gpu_to_host", "gpu_copy", "disk_read", "disk_write", "send", "recv"]
WIDTH, HEIGHT, GAP, MARGIN, NUM_SLICES = 420, 54, 26, 96, 140


def busy_spans(path, rank):
    """Seconds [begin, end) by resource, from the job's first sweep on; overlapping operations joined."""
    with open(path, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    spans = collections.defaultdict(list)
    for event in events:
        if event["ph"] == "X" and event["pid"] == rank and event["ts"] >= 0:
            spans[names[event["pid"], event["tid"]]].append((event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6))
    joined = {}
    for name, found in spans.items():
        joined[name] = []
        for begin, end in sorted(found):
            if joined[name] and begin <= joined[name][-1][1]:
                joined[name][-1][1] = max(joined[name][-1][1], end)
            else:
                joined[name].append([begin, end])
    return joined


def shares(spans, length, num_slices):
    """Busy share of each slice of [0, length)."""
    busy = [0.0] * num_slices
    step = length / num_slices
    for begin, end in spans:
        for index in range(max(0, int(begin / step)), min(num_slices - 1, int(end / step)) + 1):
            busy[index] += max(0.0, min(end, (index + 1) * step) - max(begin, index * step))
    return [min(1.0, seconds / step) for seconds in busy]


def plot(traces, length, path):
    used = [name for name in RESOURCES if any(spans.get(name) for _, spans, _ in traces)]
    width = MARGIN + len(traces) * (WIDTH + GAP)
    height = 40 + len(used) * (HEIGHT + GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for column, (title, spans, own_length) in enumerate(traces):
        left = MARGIN + column * (WIDTH + GAP)
        out.append(f'<text x="{left}" y="18" font-weight="bold">{html.escape(title)}, {own_length:.1f} s</text>')
        for row, name in enumerate(used):
            top = 30 + row * (HEIGHT + GAP)
            if column == 0:
                out.append(f'<text x="4" y="{top + HEIGHT / 2}">{name}</text>')
            values = shares(spans.get(name, []), length, NUM_SLICES)
            points = " ".join(f"{left + i * WIDTH / NUM_SLICES:.1f},{top + HEIGHT * (1 - v):.1f} "
                              f"{left + (i + 1) * WIDTH / NUM_SLICES:.1f},{top + HEIGHT * (1 - v):.1f}" for i, v in enumerate(values))
            out.append(f'<polygon points="{left},{top + HEIGHT} {points} {left + WIDTH},{top + HEIGHT}" fill="#4a7ab5"/>')
            out.append(f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>')
        out.append(f'<text x="{left}" y="{height - 4}">0</text>')
        out.append(f'<text x="{left + WIDTH}" y="{height - 4}" text-anchor="end">{length:.1f} s</text>')
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out + ["</svg>"]) + "\n")
    return used


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--svg", required=True)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("traces", nargs="+")
    arguments = parser.parse_args()
    traces = []
    for text in arguments.traces:
        name, _, path = text.partition("=")
        if not path:
            sys.exit(f"not NAME=TRACE.json: {text}\n{__doc__}")
        spans = busy_spans(path, arguments.rank)
        traces.append((name, spans, max((found[-1][1] for found in spans.values() if found), default=0.0)))
    length = max(own for _, _, own in traces)
    used = plot(traces, length, arguments.svg)
    print(f"{'':16}" + "".join(f"{name:>16}" for name, _, _ in traces))
    for resource in used:
        means = [sum(end - begin for begin, end in spans.get(resource, [])) / max(own, 1e-9) for _, spans, own in traces]
        print(f"{resource:16}" + "".join(f"{100 * mean:15.0f}%" for mean in means))


if __name__ == "__main__":
    main()
