#!/usr/bin/env python3
"""Runs flexgen-dist and its peers on one GPU, one after another, with the same memory cap and the same jobs.

The systems, models and candidates stand in cases.json; README.md says what they mean. Every run adds a row to
OUT/peers.json as soon as it ends, so that nothing measured is lost when the driver is killed.

usage: peers.py --out DIR --model opt-6.7b --binary build/flexgen-dist [--systems a,b] [--seconds-per-system 90,a=200]
       peers.py --out DIR --plan compressed [--model opt-30b] [--dry-run]
"""
import argparse
import datetime
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import results
import timeline

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def bytes_of(text):
    match = re.fullmatch(r"([0-9.]+)(KiB|MiB|GiB)?", text)
    if not match:
        raise SystemExit(f"not a size: {text!r}; write e.g. 15GiB")
    return int(float(match[1]) * UNITS.get(match[2], 1))


def arguments_text(arguments):
    """What a candidate adds to flexgen-dist's command line, the common part in words."""
    text = " ".join(arguments)
    for flags, words in ((r"--cpu-cache-compute --cpu-attention-percent (\d+)", r", CPU attention for \1 % of rows"),
                         (r"--cpu-cache-compute", ", CPU attention")):
        text = re.sub(flags, words, text)
    return text if text.startswith(",") or not text else " " + text


def policy_text(candidate):
    """How a candidate is named in tables."""
    if "name" in candidate:
        return candidate["name"]
    if "percent" in candidate:
        text = " ".join(str(number) for number in candidate["percent"])
        text += f", {candidate['gpu_batch_size']} x {candidate['num_gpu_batches']}"
        if candidate.get("rows"):
            text += f", {candidate['rows']} rows"
        for flag, words in (("cpu_cache_compute", "CPU attention"), ("pin_weight", "unpinned")):
            if candidate.get(flag, flag == "pin_weight") != (flag == "pin_weight"):
                text += ", " + words
        return text + arguments_text(candidate.get("arguments", []))
    text = f"B {candidate['batch']}"
    if "gpu_weights" in candidate:
        text += f", up to {candidate['gpu_weights']} of weights on GPU"
        text += ", pinned" if candidate.get("pinned") else ""
    elif not candidate.get("offload", True):
        text += ", weights on GPU"
    else:
        text += ", weights in DRAM"
    return text


class GpuWatch(threading.Thread):
    """Follows how much GPU memory the driver sees in use."""

    COMMAND = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = None
        self.counts_from = 0.0
        self.closed = threading.Event()

    def run(self):
        while shutil.which("nvidia-smi") and not self.closed.wait(0.4):
            try:
                began = time.monotonic()
                text = subprocess.run(self.COMMAND, capture_output=True, text=True, timeout=10).stdout
                if began < self.counts_from:
                    continue
                self.peak = max(self.peak or 0, int(text.split()[0]))
            except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
                pass

    def restart(self):
        self.counts_from = time.monotonic() + 0.5  # until then a worker may hold what its last job needed
        self.peak = None

    def close(self):
        self.closed.set()


def device_name():
    try:
        text = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "-i", "0"],
                              capture_output=True, text=True, timeout=30).stdout
        return text.strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "no GPU"


def last_line(path):
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def stop(process):
    """Ends a process and what it started (it leads a group of its own)."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Binary:
    """flexgen-dist: a process per run."""

    def __init__(self, options, system, model):
        self.options, self.system, self.model = options, system, model
        self.version = None

    def command(self, candidate, output, report, trace):
        options = self.options
        command = [str(options.binary), "bench", "--model", str(options.models / self.model), "--dummy",
                   "--prompt-len", str(options.prompt), "--gen-len", str(output),
                   "--percent", *map(str, candidate["percent"]),
                   "--gpu-batch-size", str(candidate["gpu_batch_size"]),
                   "--num-gpu-batches", str(candidate["num_gpu_batches"]),
                   "--device", options.device, "--gpu-mem", options.gpu_memory, "--cpu-mem", options.cpu_memory,
                   "--offload-dir", str(options.scratch / "flexgen-dist"), "--report", str(report)]
        if candidate.get("rows"):
            command += ["--num-rows", str(candidate["rows"])]
        if options.profile:
            command += ["--profile", str(options.profile)]
        if candidate.get("trace") and options.trace:
            command += ["--trace", str(trace)]
        return command + self.system.get("arguments", []) + candidate.get("arguments", [])

    def run(self, candidate, output, seconds):
        options = self.options
        report = options.out / "report.json"
        trace = options.scratch / "trace.json"
        for path in (report, trace):
            path.unlink(missing_ok=True)
        command = self.command(candidate, output, report, trace)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   start_new_session=True)
        try:
            text, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            stop(process)
            text, _ = process.communicate()  # its last words on progress are worth keeping
            self.log(command, text)
            return {"status": "failed", "why": f"not finished after {seconds:.0f} s"}
        self.log(command, text)
        if process.returncode != 0 or not report.exists():
            lines = [line for line in text.strip().splitlines() if "error" in line] or text.strip().splitlines()
            return {"status": "failed", "why": f"exit code {process.returncode}: {lines[-1] if lines else ''}"[:300]}
        answer = self.read(report)
        if trace.exists():
            timeline.trim(trace, options.out / f"trace-{self.model}.json")
            with open(options.out / f"gaps-{self.model}.txt", "w") as file:  # needs the whole trace, which is not kept
                subprocess.run([sys.executable, str(HERE.parent / "trace_gaps.py"), str(trace)], stdout=file,
                               stderr=options.log, timeout=60, check=False)
        if options.keep_reports:
            block = f"{candidate['gpu_batch_size']}x{candidate['num_gpu_batches']}"
            name = f"report-{self.model}-{self.system['name']}-{block}"
            count = len(list(options.out.glob(f"{name}-*.json")))
            report.replace(options.out / f"{name}-{count + 1}.json")
        else:
            report.unlink()
        return answer

    def log(self, command, text):
        self.options.log.write(f"\n$ {' '.join(command)}\n{text}")
        self.options.log.flush()

    def read(self, path):
        report = json.loads(path.read_text())
        self.version = report["version"].split()[0]
        rows = report["job"]["sequences"]
        timing, roofline = report["timing"], report.get("roofline")
        dram = report.get("tiers", {}).get("dram", {})
        measured = timing["prefill_seconds"] + timing["decode_seconds"] + timing.get("mixed_seconds", 0)
        tokens = report["job"]["generated_tokens"]
        answer = {
            "status": "ok", "load_seconds": timing["load_seconds"], "peak_host_bytes": dram.get("peak_bytes", 0),
            "figures": {"rows": rows, "output_done": tokens // rows, "prefill_seconds": timing["prefill_seconds"],
                        "decode_seconds": timing["decode_seconds"], "tokens_per_second": tokens / measured,
                        "decode_tokens_per_second": report["throughput"]["decode_tokens_per_second"]},
        }
        if roofline:
            answer["bound_fraction"] = roofline["fraction"]
            answer["bound_tokens_per_second"] = roofline["bound_tokens_per_second"]
            answer["bound_resource"] = f"{roofline['binding_resource']}, {roofline['binding_phase']}"
            answer["profile"] = roofline.get("profile")
        return answer

    def close(self):
        pass


class Worker:
    """A peer in a process of its own, which is started at need and asked for one run after another."""

    def __init__(self, options, system, model):
        self.options, self.system, self.model = options, system, model
        self.process = self.answers = None
        self.version = None

    def start(self, seconds):
        options = self.options
        environment = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                           PYTHONUNBUFFERED="1", **self.system.get("environment", {}))
        self.process = subprocess.Popen(
            [options.python, str(HERE / self.system["worker"]), "--model-folder", str(options.models / self.model),
             "--prompt", str(options.prompt), "--output", str(options.output),
             "--gpu-memory", str(bytes_of(options.gpu_memory)), "--scratch", str(options.scratch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=options.log, text=True, env=environment,
            start_new_session=True)
        self.answers = queue.Queue()

        def read(stream, answers):
            for line in stream:
                answers.put(json.loads(line))
            answers.put(None)

        threading.Thread(target=read, args=(self.process.stdout, self.answers), daemon=True).start()
        return self.receive(seconds)

    def receive(self, seconds):
        """The next answer; None when the worker died, or had to be stopped because it took too long."""
        try:
            answer = self.answers.get(timeout=max(1.0, seconds))
        except queue.Empty:
            self.close()
            self.why = f"no answer after {seconds:.0f} s"
            return None
        if answer is None:
            code = self.process.wait()
            self.why = f"the process ended ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
            if code == -signal.SIGKILL:
                self.why += ", perhaps for want of host memory"
            self.why += f"; its last words: {last_line(self.options.log.name)}"
            self.process = None
        return answer

    def run(self, candidate, output, seconds):
        end = time.monotonic() + seconds
        if self.process is None:
            hello = self.start(seconds)
            if hello is None:
                return {"status": "failed", "why": self.why + ", before it was ready"}
            self.version = hello["version"]
        left = end - time.monotonic()
        # The worker ends the job by itself between two tokens; only one that hangs is stopped from here.
        request = {"candidate": candidate, "output": output, "seconds": left - self.options.grace}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.receive(left)
        if answer is None:
            return {"status": "failed", "why": self.why}
        if answer["steps"]:
            answer["figures"] = results.figures(answer["rows"], answer["steps"])
        return answer

    def close(self):
        if self.process is not None:
            stop(self.process)
            self.process = None


class Session:
    """All runs of one call of the driver."""

    def __init__(self, options, cases):
        self.options, self.cases = options, cases
        self.path = str(options.out / "peers.json")
        self.rows = results.read_json(self.path) if os.path.exists(self.path) else []
        self.device = device_name()
        self.watch = GpuWatch()
        self.watch.start()
        self.began = time.monotonic()

    def seconds_left(self):
        return self.options.total_seconds - (time.monotonic() - self.began)

    def run_all(self):
        for model, name, limit in entries(self.options, self.cases):
            case = self.cases["cases"][model][name]
            system = dict(self.cases["systems"][name], name=name)
            runner = (Worker if "worker" in system else Binary)(self.options, system, model)
            try:
                self.run_case(model, name, system, case, runner, limit)
            finally:
                runner.close()
        self.watch.close()

    def run_case(self, model, name, system, case, runner, limit):
        end = time.monotonic() + min(limit, self.seconds_left())

        def measure(candidate, output, purpose):
            answers, needed = [], candidate.get("seconds", 5)
            self.watch.restart()
            for _ in range(candidate.get("repeat", 1)):
                began = time.monotonic()
                if end - began < needed:
                    break
                try:
                    answers.append(runner.run(candidate, output, end - began))
                except OSError as error:
                    answers.append({"status": "failed", "why": str(error)})
                if answers[-1]["status"] != "ok":
                    break
                needed = min(needed, 1.2 * (time.monotonic() - began))
            if not answers:
                left = max(0, end - time.monotonic())
                why = f"{left:.0f} s of the time budget left, about {needed} s needed"
                answers = [{"status": "skipped", "why": why}]
            return self.add(model, name, system, runner, candidate, output, purpose, results.of_repeats(answers))

        whole = self.options.output
        select = case.get("select", "all")
        if select == "short":
            tokens = case["search_output"]
            tried = [measure(candidate, tokens, "search") for candidate in case["candidates"]]
            best = results.best_candidate(tried, whole)
            if best is not None:
                measure(best["candidate"], whole, "whole")
            return
        for candidate in case["candidates"]:
            if "quoted" in candidate:
                self.add(model, name, system, runner, candidate, whole, "whole", {
                    "status": "quoted", "why": candidate["quoted"]["source"],
                    "figures": {"tokens_per_second": candidate["quoted"]["tokens_per_second"]}})
                continue
            probe = candidate.get("probe")
            row = measure(candidate, probe or whole, "search" if probe else "whole")
            if select == "first" and row["status"] in ("ok", "cut"):
                break

    def add(self, model, name, system, runner, candidate, output, purpose, answer):
        row = {
            "model": model, "system": name, "label": system["label"], "version": runner.version,
            "policy": policy_text(candidate), "candidate": candidate, "purpose": purpose,
            "device": self.device, "go": self.options.go, "gpu_memory": self.options.gpu_memory,
            "prompt": self.options.prompt, "output": output, "output_whole": self.options.output,
            "status": answer["status"],
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        for field in ("why", "load_seconds", "bound_fraction", "bound_tokens_per_second", "bound_resource", "profile",
                      "steps", "runs"):
            if answer.get(field) is not None:
                row[field] = answer[field]
        row.update(answer.get("figures", {}))
        if candidate.get("note") or system.get("note"):
            row["note"] = candidate.get("note") or system["note"]
        if answer["status"] not in ("skipped", "quoted") and self.watch.peak is not None:
            row["peak_gpu_mib"] = self.watch.peak
        for field, name_in_row in (("peak_gpu_bytes", "peak_torch_mib"), ("peak_host_bytes", "peak_host_mib")):
            if answer.get(field):
                row[name_in_row] = answer[field] // (1 << 20)
        self.rows = results.merge([self.rows, [row]])
        results.write_json(self.path, self.rows)
        figures = f"{results.number(row.get('tokens_per_second'))} tokens/s" if "tokens_per_second" in row else ""
        print(f"{time.monotonic() - self.began:6.1f} s  {model} {row['label']} [{row['policy']}] {output} tokens: "
              f"{row['status']} {figures} {row.get('why', '')} load {row.get('load_seconds') or 0:.1f} s, "
              f"prefill {row.get('prefill_seconds', 0):.2f} s, decode {row.get('decode_seconds', 0):.2f} s, "
              f"GPU {row.get('peak_gpu_mib', '?')} MiB, host {row.get('peak_host_mib', '?')} MiB", flush=True)
        return row


def entries(options, cases):
    """(model, system, seconds it may take) of what is to run, in order: a plan of cases.json, or systems by model."""
    if options.plan:
        return [(entry["model"], entry["system"], min(entry["limit"], options.budget(entry["system"])))
                for entry in cases["plans"][options.plan] if entry["model"] in (options.model or [entry["model"]])
                and entry["system"] in (options.systems or [entry["system"]])]
    return [(model, name, options.budget(name)) for model in options.model
            for name in options.systems or cases["order"] if name in cases["cases"].get(model, {})]


def dry_run(options, cases):
    """Prints what would run, and in how many seconds at most."""
    for model, name, limit in entries(options, cases):
        system = cases["systems"][name]
        print(f"{model} {system['label']}: at most {limit:g} s")
        for candidate in cases["cases"][model][name]["candidates"]:
            if "quoted" in candidate:
                print(f"  [{policy_text(candidate)}]: quoted")
                continue
            times = f" {candidate['repeat']} times" if "repeat" in candidate else ""
            print(f"  [{policy_text(candidate)}]{times}, needs {candidate.get('seconds', 5)} s")
            if "worker" not in system:
                runner = Binary(options, system, model)
                print("   ", *runner.command(candidate, options.output, "report.json", "trace.json"))


def budgets(text):
    """"90,flexgen=200": 90 s for each system, 200 for one."""
    common, special = float("inf"), {}
    for part in text.split(","):
        name, separator, seconds = part.rpartition("=")
        if separator:
            special[name] = float(seconds)
        else:
            common = float(seconds)
    return lambda system: special.get(system, common)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for peers.json, peers.md, log.txt")
    parser.add_argument("--model", action="append", help="may be given several times; with --plan: only these of it")
    parser.add_argument("--plan", help="of cases.json: what to run, in which order and time")
    parser.add_argument("--systems", type=lambda text: text.split(","), help="names of cases.json, in order")
    parser.add_argument("--cases", type=pathlib.Path, default=HERE / "cases.json")
    parser.add_argument("--models", type=pathlib.Path, default=PROJECT / "configs" / "models")
    parser.add_argument("--binary", type=pathlib.Path, default=PROJECT / "build" / "flexgen-dist")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch and the peers")
    parser.add_argument("--seconds-per-system", default="600", help="N, or N,name=N,...")
    parser.add_argument("--total-seconds", type=float, default=float("inf"))
    parser.add_argument("--grace", type=float, default=12,
                        help="seconds a worker gets to end a job that ran out of time")
    parser.add_argument("--go", default=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                        help="name of this go; only rows of one go stand side by side (default: the time)")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and run nothing")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=32)
    parser.add_argument("--gpu-memory", default="15GiB")
    parser.add_argument("--cpu-memory", default="121GiB", help="for flexgen-dist")
    parser.add_argument("--device", default="cuda", help="for flexgen-dist")
    parser.add_argument("--profile", type=pathlib.Path, help="hardware profile for flexgen-dist's roofline")
    parser.add_argument("--scratch", type=pathlib.Path, default=pathlib.Path("/tmp/flexgen-peers"))
    parser.add_argument("--keep-reports", action="store_true", help="keep flexgen-dist's reports in OUT")
    parser.add_argument("--trace", action="store_true", help="keep a cut of flexgen-dist's trace in OUT")
    options = parser.parse_args(arguments)
    if not (options.model or options.plan):
        parser.error("--model or --plan is needed")
    options.binary = options.binary.resolve()
    options.budget = budgets(options.seconds_per_system)
    return options


def main():
    options = parse(sys.argv[1:])
    cases = json.loads(options.cases.read_text())
    if options.plan and options.plan not in cases.get("plans", {}):
        raise SystemExit(f"no plan {options.plan!r} in {options.cases}")
    if options.dry_run:
        return dry_run(options, cases)
    options.out.mkdir(parents=True, exist_ok=True)
    options.scratch.mkdir(parents=True, exist_ok=True)
    with open(options.out / "log.txt", "a") as options.log:
        session = Session(options, cases)
        session.run_all()
    results.write_table(options.out / "peers.md", session.rows)
    print(results.table(session.rows))


if __name__ == "__main__":
    main()
