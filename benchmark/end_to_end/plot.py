#!/usr/bin/env python3
"""Draws the figures of the comparison. Needs matplotlib; run it where that is, not on the GPU machine.

usage: plot.py --rows peers.json --folder DIR [--trace trace.json ...]

Writes DIR/throughput.svg, DIR/latency-MODEL.svg (where some system ran at several batch sizes) and, for each trace,
DIR/timeline-TRACE.svg; --format png for PNG.
"""
import argparse
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import results  # noqa: E402
import timeline  # noqa: E402

# Okabe and Ito's colours, told apart by all common kinds of colour vision; ours is the strongest. Markers differ too.
STYLE = {
    "flexgen-dist": ("#0072B2", "o"),
    "flexgen-dist-4bit": ("#56B4E9", "D"),
    "flexgen-dist-cpu-attention": ("#00405F", "h"),
    "flexgen": ("#E69F00", "s"),
    "flexgen-4bit": ("#D8B365", "v"),
    "accelerate": ("#009E73", "^"),
    "accelerate-pinned": ("#8CCFB7", "<"),
    "deepspeed": ("#CC79A7", "P"),
}
OTHER = ("#666666", "X")
INK, GRID = "#222222", "#D9D9D9"
LANES = {
    "host_to_gpu": "host to GPU",
    "compute": "compute",
    "gpu_to_host": "GPU to host",
    "disk_read": "disk, read",
    "disk_write": "disk, write",
}
KINDS = (  # what a span of the timeline is, by the begin of its name
    ("weights", "weights", "#0072B2"),
    ("cache", "KV cache", "#E69F00"),
    ("hidden", "hidden states, tokens", "#CC79A7"),
    ("tokens", "hidden states, tokens", "#CC79A7"),
    ("attention", "attention", "#009E73"),
    ("mlp", "MLP", "#56B4E9"),
    ("", "embedding, head, other", "#999999"),
)

plt.rcParams.update({
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 12, "axes.titleweight": "bold",
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "svg.hashsalt": "flexgen-dist",
    "svg.fonttype": "path", "figure.dpi": 100, "savefig.dpi": 160, "savefig.facecolor": "white",
})


def style(system):
    return STYLE.get(system, OTHER)


def save(figure, path):
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    print(path)


def subtitle(rows, several_devices=False):
    row = rows[0]
    device = "One GPU" if several_devices else row["device"]
    memory = row["gpu_memory"].replace("GiB", " GiB")
    return (f"{device} with {memory} of GPU memory; prompt {row['prompt']}, output {row['output_whole']} tokens; "
            "random weights")


def bars(group):
    """[(position, row)] and [(position, caption)] of a panel, from the bottom: float16, then 4-bit, each by speed."""
    standing = [row for row in results.standing_rows(group) if row.get("tokens_per_second")]
    kinds = [("float16", [row for row in standing if not results.is_compressed(row)]),
             ("4-bit weights and cache", [row for row in standing if results.is_compressed(row)])]
    placed, captions, position = [], [], 0.0
    for caption, rows in kinds:
        for row in sorted(rows, key=lambda row: row["tokens_per_second"]):
            placed.append((position, row))
            position += 1
        if rows:
            captions.append((position - 0.28, caption))
            position += 0.55
    return placed, captions, position


def beside_bar(row):
    """What stands behind a bar's number: the policy, and what else is to be known."""
    lines = [row["policy"].replace("GiB", " GiB")]
    if row["status"] == "cut":
        lines.append(f"stopped after {row['output_done']} tokens")
    elif row["status"] == "quoted":
        lines.append("quoted from another go, not run here")
    elif results.lacks_repeats(row):
        lines.append("a first run, not repeated")
    if row.get("bound_fraction"):
        lines.append(f"{100 * row['bound_fraction']:.0f} % of its roofline")
    return lines[0] + ("\n" + ", ".join(lines[1:]) if lines[1:] else "")


def throughput(rows, path):
    """Bars, one panel per model, device and go, the fastest system on top; every bar labelled."""
    groups = results.comparable(rows)
    panels = [bars(group) for group in groups.values()]
    heights = [max(1, height) for _, _, height in panels]
    width = 9.4
    figure, axes = plt.subplots(len(groups), 1, figsize=(width, 1.0 + sum(0.52 * h + 0.75 for h in heights)),
                                gridspec_kw={"height_ratios": [h + 0.6 for h in heights]}, squeeze=False)
    several_devices = len({device for _, device, _ in groups}) > 1
    several_goes = len({go for _, _, go in groups}) > 1
    for axis, (key, group), (placed, captions, height) in zip(axes[:, 0], groups.items(), panels):
        limit = 1e-9
        for position, row in placed:
            value, color = row["tokens_per_second"], style(row["system"])[0]
            quoted = row["status"] == "quoted"
            axis.barh(position, value, height=0.66, color="none" if quoted else color,
                      hatch="///" if row["status"] == "cut" else None, edgecolor=color if quoted else "white",
                      linewidth=1.3 if quoted else 0, linestyle="--" if quoted else "-")
            text, note = results.number(value), beside_bar(row)
            axis.annotate(text, (value, position), textcoords="offset points", xytext=(6, 0), va="center", ha="left",
                          fontweight="bold")
            axis.annotate(note, (value, position), textcoords="offset points", xytext=(16 + 7 * len(text), 0),
                          va="center", ha="left", fontsize=8, color="#555555")
            # Room on the right for the words: inches of them, of the about 7 that the axis has.
            words = 0.3 + 0.1 * len(text) + 0.062 * max(map(len, note.splitlines()))
            limit = max(limit, 1.02 * value, value / max(0.25, 1 - words / (width - 2.4)))
        for position, caption in captions:
            axis.text(0.004, position, caption, transform=axis.get_yaxis_transform(), va="center", fontsize=8.5,
                      fontstyle="italic", color="#555555")
        axis.set_yticks([position for position, _ in placed], [row["label"] for _, row in placed])
        axis.tick_params(axis="y", length=0)
        axis.set_xlim(0, limit)
        axis.set_ylim(-0.6, max(1, height) - 0.4)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        model, device, _ = key
        axis.set_title(results.display_name(model) + (f", {device}" if several_devices else ""), loc="left")
        if several_goes:
            axis.set_title(results.when(group), loc="right", fontsize=9, fontweight="normal", color="#555555")
    axes[-1, 0].set_xlabel("generated tokens per second, whole run")
    figure.suptitle("Throughput, each system with the fastest policy tried", x=0.01,
                    y=1.0 - 0.1 / figure.get_figheight(), ha="left", va="top", fontsize=14, fontweight="bold")
    words = subtitle(rows, several_devices) + ("; compare within a panel only" if several_goes else "")
    figure.text(0.01, 1.0 - 0.42 / figure.get_figheight(), words, ha="left", va="top", fontsize=9, color="#555555")
    figure.tight_layout(rect=(0, 0, 1, 1.0 - 0.5 / figure.get_figheight()))
    save(figure, path)


def latency(rows, path):
    """How long a job takes against its throughput, by number of rows: up and left is better."""
    series = results.curves(rows)
    figure, axis = plt.subplots(figsize=(8.2, 5.0))
    labelled = set()
    for (system, _), points in series.items():
        color, marker = style(system)
        label = None if system in labelled else points[0]["label"]
        labelled.add(system)
        seconds = [row["prefill_seconds"] + row["decode_seconds"] for row in points]
        speeds = [row["tokens_per_second"] for row in points]
        axis.plot(seconds, speeds, color=color, marker=marker, markersize=8, linewidth=1.8, label=label,
                  markeredgecolor="white", markeredgewidth=0.8, zorder=3 if system.startswith("flexgen-dist") else 2)
        for row, second, speed in zip(points, seconds, speeds):
            in_dram = row["candidate"].get("percent", [0, 0])[1]
            text, offset, side = f"{row['rows']}", (9, -3), "left"
            if in_dram:
                text, offset, side = f"{in_dram} % of the weights in DRAM: {row['rows']}", (-9, -3), "right"
            axis.annotate(text, (second, speed), textcoords="offset points", xytext=offset, ha=side, fontsize=9,
                          color=color)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.margins(0.1)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(lambda value, _: f"{value:,g}")
        side.set_minor_formatter(lambda value, _: f"{value:,g}" if f"{value:e}"[0] in "25" else "")
    axis.tick_params(which="minor", labelsize=8, colors="#555555")
    axis.grid(which="major", color=GRID, linewidth=0.8)
    axis.grid(which="minor", color=GRID, linewidth=0.3)
    axis.set_xlabel("seconds until the whole block is done (prefill + decode)")
    axis.set_ylabel("generated tokens per second")
    axis.legend(frameon=False, loc="best")
    axis.set_title(f"{results.display_name(rows[0]['model'])}: latency against throughput (numbers: rows per block)",
                   loc="left", pad=24)
    axis.text(0, 1.02, subtitle(rows), transform=axis.transAxes, fontsize=9,
              color="#555555", va="bottom")
    save(figure, path)


def kind(span):
    # A copy that bears a layer's name moves its weights.
    of_layer = span["name"].startswith(("attention", "mlp", "embedding", "head"))
    name = "weights" if of_layer and span["lane"] != "compute" else span["name"]
    return next(entry for entry in KINDS if name.startswith(entry[0]))


def draw_timeline(trace, path, layers, sweep, title):
    """Copies and computing of a layer, one lane each, on a common clock."""
    everything = timeline.spans(trace)
    begin, end, first = timeline.window(everything, layers, sweep)
    margin = 0.04 * (end - begin)
    shown = timeline.within(everything, begin - margin, end + margin)
    length = end - begin + 2 * margin
    lanes = [lane for lane in LANES if timeline.busy_seconds(shown, lane) > 5e-4 * length]
    unit, factor = ("ms", 1e3) if length < 2 else ("s", 1)
    figure, axis = plt.subplots(figsize=(10, 0.75 * len(lanes) + 1.9))
    legend = {}
    for span in shown:
        if span["lane"] not in lanes:
            continue
        _, label, color = kind(span)
        position = len(lanes) - 1 - lanes.index(span["lane"])
        width = span["end"] - span["begin"]
        bar = axis.barh(position, width * factor, left=span["begin"] * factor, height=0.62, color=color,
                        edgecolor="white", linewidth=0.5 if width > 4e-3 * length else 0)
        legend.setdefault(label, bar)
    for lane in lanes:
        share = timeline.busy_seconds(shown, lane) / length
        axis.text(1.01, len(lanes) - 1 - lanes.index(lane), f"{100 * share:.0f} % busy", va="center", fontsize=9,
                  transform=axis.get_yaxis_transform())
    for edge in (margin, length - margin):
        axis.axvline(edge * factor, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.set_yticks(range(len(lanes)), [LANES[lane] for lane in reversed(lanes)])
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(0, length * factor)
    axis.set_xlabel(f"time, {unit}")
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    named = f"layer {first}" if layers == 1 else f"layers {first} to {first + layers - 1}"
    axis.set_title(f"{title}: copies and computing, {named}", loc="left", pad=30)
    axis.legend(legend.values(), legend.keys(), frameon=False, ncols=len(legend), loc="lower left",
                bbox_to_anchor=(-0.005, 1.0), fontsize=9, handlelength=1.2, columnspacing=1.2)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=pathlib.Path)
    parser.add_argument("--trace", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--title", default="flexgen-dist", help="begin of a timeline's title")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--sweep", type=int, help="which pass over the layers; default: the middle one")
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.rows:
        rows = results.read_json(options.rows)
        throughput(rows, options.folder / f"throughput.{options.format}")
        drawn = {}  # figures by model: those of a second card or go are numbered
        for (model, _, _), group in results.comparable(rows).items():
            # Batch sizes close to each other say nothing about latency.
            if any(points[-1]["rows"] >= 2 * points[0]["rows"] for points in results.curves(group).values()):
                drawn[model] = drawn.get(model, 0) + 1
                number = f"-{drawn[model]}" if drawn[model] > 1 else ""
                latency(group, options.folder / f"latency-{model}{number}.{options.format}")
    for trace in options.trace:
        draw_timeline(trace, options.folder / f"timeline-{trace.stem.removeprefix('trace-')}.{options.format}",
                      options.layers, options.sweep, options.title)


if __name__ == "__main__":
    main()
