"""Picks the part of a flexgen-dist trace (Chrome trace JSON) in which copies and computing of a layer overlap."""
import json
import re

LANES = ("host_to_gpu", "compute", "gpu_to_host", "disk_read", "disk_write")


def spans(path):
    """Events that have a length, by begin: {name, lane, begin and end in seconds, bytes}."""
    with open(path) as file:
        events = json.load(file)
    events = events["traceEvents"] if isinstance(events, dict) else events
    chosen = [{"name": event["name"], "lane": event["cat"], "begin": event["ts"] / 1e6,
               "end": (event["ts"] + event["dur"]) / 1e6, "bytes": event.get("args", {}).get("bytes", 0)}
              for event in events if event.get("ph") == "X" and event.get("pid", 0) == 0]
    return sorted(chosen, key=lambda span: span["begin"])


def sweeps(all_spans):
    """Begin of each pass over the layers: computing of the first layer's attention after another layer's."""
    begins, previous = [], None
    for span in all_spans:
        match = span["lane"] == "compute" and re.fullmatch(r"(attention|mlp) (\d+)", span["name"])
        if match:
            layer = int(match[2])
            if previous is None or layer < previous:
                begins.append(span["begin"])
            previous = layer
    return begins


def window(all_spans, layers=1, sweep=None):
    """(begin, end, first layer): `layers` layers in the middle of one sweep; by default of the middle one, a decode."""
    begins = sweeps(all_spans)
    if not begins:
        raise ValueError("the trace holds no computed layer")
    sweep = len(begins) // 2 if sweep is None else sweep
    begin = begins[sweep]
    end = begins[sweep + 1] if sweep + 1 < len(begins) else float("inf")
    computed = [span for span in all_spans if span["lane"] == "compute" and begin <= span["begin"] < end]
    of_layer = {}
    for span in computed:
        match = re.fullmatch(r"(attention|mlp) (\d+)", span["name"])
        if match:
            of_layer.setdefault(int(match[2]), []).append(span)
    present = sorted(of_layer)
    first = present[max(0, (len(present) - layers) // 2)]
    chosen = [span for layer in range(first, first + layers) for span in of_layer.get(layer, [])]
    return min(span["begin"] for span in chosen), max(span["end"] for span in chosen), first


def within(all_spans, begin, end):
    """Spans that touch the window, clipped to it, times relative to its begin."""
    return [dict(span, begin=max(span["begin"], begin) - begin, end=min(span["end"], end) - begin)
            for span in all_spans if span["end"] > begin and span["begin"] < end]


def busy_seconds(clipped, lane):
    """Time in which at least one span of the lane is open."""
    total, reached = 0.0, float("-inf")
    for span in sorted((span for span in clipped if span["lane"] == lane), key=lambda span: span["begin"]):
        if span["end"] > reached:
            total += span["end"] - max(span["begin"], reached)
            reached = span["end"]
    return total


def trim(source, target, layers=4):
    """Writes the events around the middle of the middle sweep, and of the first, to a small trace file."""
    all_spans = spans(source)
    kept = []
    for sweep in (0, None):
        try:
            begin, end, _ = window(all_spans, layers, sweep)
        except (ValueError, IndexError):
            continue
        margin = 0.25 * (end - begin)
        kept += [span for span in all_spans if span["end"] > begin - margin and span["begin"] < end + margin]
    events = [{"name": span["name"], "cat": span["lane"], "ph": "X", "pid": 0, "tid": LANES.index(span["lane"])
               if span["lane"] in LANES else len(LANES), "ts": round(span["begin"] * 1e6, 3),
               "dur": round((span["end"] - span["begin"]) * 1e6, 3), "args": {"bytes": span["bytes"]}} for span in kept]
    with open(target, "w") as file:
        json.dump({"traceEvents": events}, file)
