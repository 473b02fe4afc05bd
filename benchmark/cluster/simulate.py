#!/usr/bin/env python3
"""Predicts a pipeline's throughput from times of its stages: sweeps of groups follow each other over stages and links.

    simulate.py --report RUN.json [--stages-of OTHER.json] [--groups G] [--latency S] [--bandwidth BYTES/S]
    simulate.py --seconds 0.2 --ranks 2,4,...,512 --micro-batches 4 --bytes-per-sweep 1e6 --rows 128 --bandwidth 1.25e9

With --report the decode sweeps of a run (`--report` of generate or bench) are simulated, from what its stages needed for
one, or those of another run of the same job over other links; the prediction stands beside what was measured. Without,
pipelines of one stage time are compared. All times are seconds. Standard library only.

The model. A stage computes one sweep at a time, those of the groups in their turn: layer by layer, each for all
micro-batches. A micro-batch leaves when the last layer has computed it. A link carries one message at a time: it takes
bytes / bandwidth, and is there a latency later. A stage begins when it is free and the first micro-batch is there, and
waits in its first layer for those that are not. Tokens, which are small, come back to rank 0 after a latency; a group
begins its next sweep when all of its tokens are there. Sends and receives cost a stage nothing. With --variation a stage
needs more for some sweeps than for others, by a normal distribution, the same in every run.
"""

import argparse
import json
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    latency: float  # seconds
    bandwidth: float  # bytes a second


@dataclass(frozen=True)
class Pipeline:
    stage_seconds: tuple  # of one sweep, by rank
    stage_layers: tuple  # by rank
    micro_batches: int  # of a sweep
    sweep_bytes: float  # of hidden states over a link
    link: Link
    groups: int
    variation: float = 0  # standard deviation of a stage's seconds, in parts of them


def simulate(pipeline, sweeps_per_group):
    """When the last tokens of every round of the groups are there: seconds since the first sweep's begin."""
    ranks = len(pipeline.stage_seconds)
    wire = pipeline.sweep_bytes / pipeline.micro_batches / pipeline.link.bandwidth
    stage_free = [0.0] * ranks
    link_free = [0.0] * ranks
    tokens_there = [0.0] * pipeline.groups
    draw = random.Random(7)
    ends = []
    for _ in range(sweeps_per_group):
        for group in range(pipeline.groups):
            arrivals = [tokens_there[group]] * pipeline.micro_batches
            for rank in range(ranks):
                seconds = pipeline.stage_seconds[rank] * max(0.1, draw.gauss(1, pipeline.variation))
                begin = max(stage_free[rank], arrivals[0])
                departures = compute(seconds, pipeline.stage_layers[rank], begin, arrivals)
                stage_free[rank] = departures[-1]
                arrivals = []
                for departure in departures:
                    if rank + 1 == ranks:  # tokens, which are small
                        arrivals.append(departure + (pipeline.link.latency if ranks > 1 else 0))
                        continue
                    link_free[rank] = max(link_free[rank], departure) + wire
                    arrivals.append(link_free[rank] + pipeline.link.latency)
            tokens_there[group] = arrivals[-1]
        ends.append(max(tokens_there))
    return ends


def compute(seconds, layers, begin, arrivals):
    """When each micro-batch leaves a stage."""
    count = len(arrivals)
    call = seconds / layers / count
    at, first_layer = begin, []
    for arrival in arrivals:
        at = max(at, arrival) + call
        first_layer.append(at)
    if layers == 1:
        return first_layer
    at += (layers - 2) * count * call
    return [at + (k + 1) * call for k in range(count)]


def stage_seconds(report):
    """What each stage needs for a sweep that brings one token of every row: what it computes, and what it does besides,
    which is what is left of all sweeps' time when it neither computes nor waits. Of a GPU's waits nothing is known."""
    totals = report["sweeps"]
    decode = totals["decode"]["sweeps"]
    seconds = []
    for rank in report["ranks"]:
        computed = {phase: use["compute"]["occupied_seconds"] for phase, use in rank["resources_by_phase"].items()}
        besides = 0.0
        if rank["device"] == "host CPU":
            run = sum(totals[phase]["seconds"] for phase in computed)
            waits = sum(rank["waits"][what + "_seconds"] for what in ("load", "receive", "turn"))
            besides = (run - waits - sum(computed.values())) / sum(totals[phase]["sweeps"] for phase in computed)
        seconds.append(computed["decode"] / decode + max(0.0, besides))
    return seconds


def predict(report, link, seconds=None, groups=None):
    """Tokens/s of the decode sweeps of a run, as simulated and as measured, and how busy each stage should have been.

    seconds: of a sweep on each stage; none: the report's own. groups: in flight; none: as many as ranks.
    """
    ranks, decode = report["ranks"], report["sweeps"]["decode"]
    sent = ranks[0]["resources_by_phase"]["decode"]["send"]["bytes"]
    pipeline = Pipeline(
        tuple(seconds or stage_seconds(report)),
        tuple(2 * rank["num_layers"] for rank in ranks),  # attention and mlp are two
        report["policy"]["num_gpu_batches"],
        sent / decode["sweeps"],
        link,
        groups or len(ranks),
    )
    rounds = max(1, round(decode["sweeps"] / pipeline.groups))
    took = simulate(pipeline, rounds)[-1]
    sweeps_per_second = rounds * pipeline.groups / took
    busy = [own * sweeps_per_second for own in pipeline.stage_seconds]
    tokens = decode["decode_tokens"] / decode["sweeps"]
    return tokens * sweeps_per_second, decode["decode_tokens"] / decode["seconds"], busy


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def print_report(arguments):
    seconds = stage_seconds(read(arguments.stages_of)) if arguments.stages_of else arguments.seconds
    link = Link(arguments.latency, arguments.bandwidth)
    predicted, measured, busy = predict(read(arguments.report), link, seconds, arguments.groups)
    print(f"predicted {predicted:.1f} tokens/s, measured {measured:.1f}: {100 * (predicted / measured - 1):+.1f} %")
    print("busy " + ", ".join(f"{100 * part:.0f} %" for part in busy))


def steady_sweeps_per_second(pipeline, sweeps_per_group):
    """Once the pipeline is full: in the second half."""
    ends = simulate(pipeline, sweeps_per_group)
    half = len(ends) // 2
    return pipeline.groups * (len(ends) - half) / (ends[-1] - ends[half - 1])


def print_ranks(arguments):
    print("| ranks | groups | tokens/s | stages busy |\n|---|---|---|---|")
    for ranks in arguments.ranks:
        groups = arguments.groups or ranks + arguments.more_groups
        pipeline = Pipeline(
            (arguments.seconds[0],) * ranks,
            (arguments.layers,) * ranks,
            arguments.micro_batches,
            arguments.bytes_per_sweep,
            Link(arguments.latency, arguments.bandwidth),
            groups,
            arguments.variation,
        )
        rate = steady_sweeps_per_second(pipeline, arguments.sweeps)
        print(f"| {ranks} | {groups} | {arguments.rows * rate:.0f} | {100 * rate * arguments.seconds[0]:.1f} % |")


def numbers(kind):
    return lambda text: [kind(part) for part in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", help="JSON report of a run")
    parser.add_argument("--stages-of", help="JSON report whose stage times count")
    parser.add_argument("--seconds", type=numbers(float), help="of a sweep on each stage; without --report on any")
    parser.add_argument("--groups", type=int, help="blocks in flight; default: as many as ranks")
    parser.add_argument("--latency", type=float, default=50e-6, help="of a link, seconds")
    parser.add_argument("--bandwidth", type=float, default=1.25e9, help="of a link, bytes a second")
    made_up = parser.add_argument_group("without --report")
    made_up.add_argument("--ranks", type=numbers(int), default=[2, 4, 8, 16, 32, 64, 128, 256, 512])
    made_up.add_argument("--more-groups", type=int, default=0, help="than ranks")
    made_up.add_argument("--variation", type=float, default=0, help="of a stage's seconds between sweeps, 0.05: 5 percent")
    made_up.add_argument("--layers", type=int, default=6, help="of a slice, attention and mlp apart")
    made_up.add_argument("--micro-batches", type=int, default=4)
    made_up.add_argument("--bytes-per-sweep", type=float, default=1e6, help="hidden states of a block's tokens")
    made_up.add_argument("--rows", type=int, default=128, help="of a block, each a token a sweep")
    made_up.add_argument("--sweeps", type=int, default=16, help="of every group; two at least")
    arguments = parser.parse_args()
    if not arguments.report and not arguments.seconds:
        parser.error("--seconds or --report is needed")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.report:
        print_report(arguments)
    else:
        print_ranks(arguments)


if __name__ == "__main__":
    main()
