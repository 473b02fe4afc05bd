#!/usr/bin/env python3
"""The comparison with the peers: its arithmetic, its choices, its files, and a driver whose workers misbehave."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = pathlib.Path(__file__).resolve().parent
BENCHMARK = ROOT / "benchmark" / "end_to_end"
sys.path.insert(0, str(BENCHMARK))
import peers  # noqa: E402
import results  # noqa: E402
import timeline  # noqa: E402


def row(system="a", policy="p", status="ok", speed=1.0, purpose="whole", model="opt-30b", **more):
    return dict({"model": model, "system": system, "label": system.upper(), "policy": policy, "status": status,
                 "tokens_per_second": speed, "purpose": purpose, "output": 32, "output_whole": 32, "output_done": 32,
                 "prompt": 512, "gpu_memory": "15GiB", "device": "gpu", "rows": 4, "candidate": {"batch": 4},
                 "prefill_seconds": 1.0, "decode_seconds": 2.0}, **more)


class FiguresTest(unittest.TestCase):
    def test_throughput_counts_the_token_of_the_prefill(self):
        figures = results.figures(4, [2.0, 1.0, 1.0])
        self.assertEqual(figures["tokens_per_second"], 12 / 4.0)
        self.assertEqual(figures["decode_tokens_per_second"], 8 / 2.0)
        self.assertEqual(figures["output_done"], 3)

    def test_a_job_of_one_token_has_no_decode_rate(self):
        self.assertIsNone(results.figures(4, [2.0])["decode_tokens_per_second"])

    def test_a_candidate_is_judged_by_the_whole_job(self):
        # Better in the short run, where prefill dominates, and worse in a long one.
        quick_prefill = dict(status="ok", name="x", **results.figures(4, [1.0, 1.0]))
        quick_decode = dict(status="ok", name="y", **results.figures(4, [3.0, 0.5]))
        failed = dict(status="failed", name="z")
        self.assertEqual(results.best_candidate([quick_prefill, quick_decode, failed], 2)["name"], "x")
        self.assertEqual(results.best_candidate([quick_prefill, quick_decode, failed], 32)["name"], "y")
        self.assertIsNone(results.best_candidate([failed], 32))


class MergeTest(unittest.TestCase):
    def test_the_later_of_equal_measurements_stands(self):
        merged = results.merge([[row(speed=1.0), row(policy="q")], [row(speed=2.0)]])
        self.assertEqual([entry["tokens_per_second"] for entry in merged], [2.0, 1.0])

    def test_a_failure_does_not_replace_a_measurement(self):
        merged = results.merge([[row(speed=1.0)], [row(status="failed", speed=None)]])
        self.assertEqual([entry["status"] for entry in merged], ["ok"])
        merged = results.merge([[row(status="failed", speed=None)], [row(status="cut", speed=1.0)]])
        self.assertEqual([entry["status"] for entry in merged], ["cut"])

    def test_a_probe_a_cut_run_and_another_device_are_other_measurements_or_worth_less(self):
        rows = [row(speed=9.0, purpose="search"), row(speed=5.0, status="cut", policy="q"), row(speed=3.0),
                row(speed=2.0, policy="r")]
        self.assertEqual(len(results.merge([rows, [row(device="other")]])), 5)
        self.assertEqual([entry["tokens_per_second"] for entry in results.standing_rows(rows)], [3.0])
        self.assertEqual(results.standing_rows(rows[:2])[0]["status"], "cut")
        self.assertEqual(len(results.standing_rows(rows + [row(device="other")])), 2)

    def test_files_are_replaced_as_a_whole(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "peers.json")
            results.write_json(path, [row()])
            results.write_json(path, [row(), row(policy="q")])
            self.assertEqual(len(results.read_json(path)), 2)
            self.assertEqual(os.listdir(folder), ["peers.json"])


class TableTest(unittest.TestCase):
    def test_numbers(self):
        self.assertEqual([results.number(value) for value in (1234.5, 998.05, 42.04, 1.259, 0.6, None)],
                         ["1,234", "998", "42.0", "1.26", "0.60", ""])

    def test_the_fastest_first_and_the_reason_of_a_failure(self):
        text = results.table([row("slow", speed=1.0), row("fast", speed=30.0), row("fast", speed=2.0, policy="q"),
                              row("none", status="failed", speed=None, why="out of GPU memory | line"),
                              row("cut", status="cut", speed=5.0, output_done=9)])
        self.assertIn("## OPT-30B", text)
        order = [text.index(f"| {name} |") for name in ("FAST", "CUT", "SLOW", "NONE")]
        self.assertEqual(order, sorted(order))
        self.assertIn("out of GPU memory / line", text)
        self.assertIn("stopped after 9 of 32 tokens", text)
        self.assertIn("Other runs", text)

    def test_repeats_and_runs_that_lack_them(self):
        runs = [dict(status="ok", figures=results.figures(4, [second])) for second in (4.0, 1.0, 2.0)]
        best = results.of_repeats(runs + [dict(status="failed", why="x")])
        self.assertEqual((best["figures"]["tokens_per_second"], best["runs"]), (4.0, [1.0, 4.0, 2.0]))
        self.assertEqual(results.of_repeats([dict(status="failed", why="x")]), dict(status="failed", why="x"))
        repeated = row(runs=[1.0, 4.0], candidate={"batch": 4, "repeat": 2})
        once = row(runs=[1.0], candidate={"batch": 4, "repeat": 2})
        self.assertIn("fastest of 2 runs, 1.00 to 4.00", results.remark(repeated))
        self.assertIn("1 of 2 runs", results.remark(once))
        self.assertEqual((len(results.curves([repeated])), len(results.curves([once]))), (1, 0))

    def test_curves_keep_placements_apart(self):
        def at(batch, percent, speed, **more):
            return row(speed=speed, rows=batch, policy=f"{batch} {percent}", **more,
                       candidate={"percent": percent, "gpu_batch_size": batch, "num_gpu_batches": 1})
        series = results.curves([at(8, [100], 9.0), at(1, [100], 2.0), at(1, [100], 1.0), at(4, [50], 3.0),
                                 at(2, [100], 5.0, status="cut")])
        self.assertEqual(sorted([entry["tokens_per_second"] for entry in points] for points in series.values()),
                         [[2.0, 9.0], [3.0]])


class TimelineTest(unittest.TestCase):
    @staticmethod
    def trace(folder):
        events = [{"name": "thread_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": "compute"}}]
        now = 0
        for _ in range(3):  # sweeps of three layers; weights of the next layer come meanwhile
            for layer in range(3):
                for part in ("attention", "mlp"):
                    events.append({"name": f"{part} {layer}", "cat": "compute", "ph": "X", "pid": 0, "tid": 0,
                                   "ts": now, "dur": 8, "args": {"bytes": 0}})
                    events.append({"name": "weights", "cat": "host_to_gpu", "ph": "X", "pid": 0, "tid": 1, "ts": now,
                                   "dur": 10, "args": {"bytes": 5}})
                    now += 10
        path = os.path.join(folder, "trace.json")
        with open(path, "w") as file:
            json.dump({"traceEvents": events}, file)
        return path

    def test_the_middle_layer_of_the_middle_sweep(self):
        with tempfile.TemporaryDirectory() as folder:
            spans = timeline.spans(self.trace(folder))
            self.assertEqual(len(timeline.sweeps(spans)), 3)
            begin, end, layer = timeline.window(spans)
            self.assertEqual(layer, 1)
            self.assertAlmostEqual(begin * 1e6, 80)
            self.assertAlmostEqual(end * 1e6, 98)
            clipped = timeline.within(spans, begin, end)
            self.assertAlmostEqual(timeline.busy_seconds(clipped, "compute") * 1e6, 16)
            self.assertAlmostEqual(timeline.busy_seconds(clipped, "host_to_gpu") * 1e6, 18)

    def test_overlapping_spans_count_once(self):
        spans = [{"lane": "x", "begin": 0, "end": 4}, {"lane": "x", "begin": 1, "end": 2},
                 {"lane": "x", "begin": 3, "end": 6}, {"lane": "y", "begin": 0, "end": 9}]
        self.assertEqual(timeline.busy_seconds(spans, "x"), 6)

    def test_a_trimmed_trace_still_shows_the_layer(self):
        with tempfile.TemporaryDirectory() as folder:
            small = os.path.join(folder, "small.json")
            timeline.trim(self.trace(folder), small, layers=1)
            spans = timeline.spans(small)
            self.assertLess(len(spans), 18)
            self.assertEqual(timeline.window(spans)[2], 1)

    def test_no_layer_is_an_error(self):
        with self.assertRaises(ValueError):
            timeline.window([])


class CasesTest(unittest.TestCase):
    def test_every_case_is_complete(self):
        cases = json.loads((BENCHMARK / "cases.json").read_text())
        for model, systems in cases["cases"].items():
            self.assertTrue((ROOT / "configs" / "models" / model / "config.json").exists(), model)
            for name, case in systems.items():
                system = cases["systems"][name]
                if "worker" in system:
                    self.assertTrue((BENCHMARK / system["worker"]).exists(), name)
                names = [peers.policy_text(candidate) for candidate in case["candidates"]]
                self.assertEqual(len(set(names)), len(names), f"{model} {name}: rows would replace each other")
                for candidate in case["candidates"]:
                    if "percent" in candidate:
                        self.assertEqual(len(candidate["percent"]), 6)

    def test_options(self):
        self.assertEqual(peers.bytes_of("1.5GiB"), 3 << 29)
        with self.assertRaises(SystemExit):
            peers.bytes_of("15GB")
        budget = peers.budgets("90,flexgen=200")
        self.assertEqual((budget("flexgen"), budget("deepspeed")), (200, 90))


class DriverTest(unittest.TestCase):
    def drive(self, folder, case, *more):
        cases = {"order": ["peer"], "systems": {"peer": {"label": "Peer", "worker": str(HERE / "stand_in_worker.py")}},
                 "cases": {"opt-125m": {"peer": case}}}
        path = os.path.join(folder, "cases.json")
        with open(path, "w") as file:
            json.dump(cases, file)
        subprocess.run([sys.executable, "-B", str(BENCHMARK / "peers.py"), "--out", folder, "--model", "opt-125m",
                        "--cases", path, "--scratch", os.path.join(folder, "scratch"), "--output", "4", *more],
                       check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, PATH="/nowhere"), timeout=50)
        return results.read_json(os.path.join(folder, "peers.json"))

    def test_a_worker_that_fails_or_dies_costs_one_row(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = self.drive(folder, {"candidates": [{"batch": batch} for batch in (2, 3, 5, 1)]})
            self.assertEqual([entry["status"] for entry in rows], ["failed", "failed", "cut", "ok"])
            self.assertEqual(rows[0]["why"], "out of GPU memory")
            self.assertIn("SIGABRT", rows[1]["why"])
            self.assertEqual(rows[3]["version"], "9")
            self.assertAlmostEqual(rows[3]["tokens_per_second"], 4 / 1.25)
            self.assertTrue(os.path.exists(os.path.join(folder, "peers.md")))

    def test_a_worker_that_hangs_is_stopped_and_the_budget_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = self.drive(folder, {"candidates": [{"batch": 4, "seconds": 1}, {"batch": 1, "seconds": 1}]},
                              "--seconds-per-system", "2", "--grace", "0")
            self.assertEqual([entry["status"] for entry in rows], ["failed", "skipped"])
            self.assertIn("no answer", rows[0]["why"])

    def test_the_best_of_short_runs_runs_whole(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = self.drive(folder, {"select": "short", "search_output": 2,
                                       "candidates": [{"batch": 1}, {"batch": 6}, {"batch": 2}]})
            self.assertEqual([(entry["purpose"], entry["output"]) for entry in rows],
                             [("search", 2)] * 3 + [("whole", 4)])
            self.assertEqual(rows[-1]["rows"], 6)

    def test_a_candidate_runs_as_often_as_it_asks(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = self.drive(folder, {"candidates": [{"batch": 1, "repeat": 3}, {"batch": 5, "repeat": 3}]})
            self.assertEqual([(entry["status"], len(entry.get("runs", []))) for entry in rows], [("ok", 3), ("cut", 0)])

    def test_first_stops_at_the_first_that_runs_and_results_add_up(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = self.drive(folder, {"select": "first", "candidates": [{"batch": 2}, {"batch": 6}, {"batch": 1}]})
            self.assertEqual([entry["status"] for entry in rows], ["failed", "ok"])
            self.assertEqual(len(self.drive(folder, {"candidates": [{"batch": 1}]})), 3)


if __name__ == "__main__":
    unittest.main()
