#!/usr/bin/env python3
"""The pipeline's simulator against what can be computed by hand, and the scaling runs with a stand-in for the program."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
CLUSTER = PROJECT / "benchmark" / "cluster"
sys.path.insert(0, str(CLUSTER))

import scaling  # noqa: E402
import simulate  # noqa: E402

FREE = simulate.Link(latency=0, bandwidth=1e30)

# Writes what bench would: a report, last, and a trace in which two ranks compute one after the other.
STAND_IN = '''#!/usr/bin/env python3
import json, pathlib, sys
value = lambda name: sys.argv[sys.argv.index(name) + 1]
log = pathlib.Path(__file__).with_name("log")
log.write_text((log.read_text() if log.exists() else "") + value("--num-rows") + "\\n")
ranks = int(value("-n"))
sweeps = 10 * ranks
use = {"compute": {"occupied_seconds": sweeps * 0.09}, "send": {"bytes": 0}}  # a tenth of a sweep's time is spent besides
stage = {"num_layers": 2, "device": "host CPU", "resources_by_phase": {"decode": use},
         "waits": {"load_seconds": 0, "receive_seconds": 0, "turn_seconds": 0}}
report = {"ranks": [stage] * ranks, "policy": {"num_gpu_batches": 2}, "throughput": {"tokens_per_second": 40.0 * ranks},
          "sweeps": {"decode": {"sweeps": sweeps, "decode_tokens": 8 * sweeps, "seconds": sweeps * 0.1}}}
events = [{"ph": "M", "pid": r, "tid": 0, "name": "thread_name", "args": {"name": "compute"}} for r in range(ranks)]
events += [{"ph": "X", "pid": r, "tid": 0, "name": "mlp", "ts": 1e6 * r, "dur": 5e6} for r in range(ranks)]
pathlib.Path(value("--trace")).write_text(json.dumps({"traceEvents": events}))
pathlib.Path(value("--report")).write_text(json.dumps(report))
'''


def pipeline(seconds, groups, link=FREE, micro_batches=2, layers=4, sweep_bytes=0.0):
    return simulate.Pipeline(tuple(seconds), (layers,) * len(seconds), micro_batches, sweep_bytes, link, groups)


class Simulator(unittest.TestCase):
    def test_one_stage_is_always_busy(self):
        self.assertAlmostEqual(simulate.simulate(pipeline([0.5], 1), 6)[-1], 3.0)

    def test_as_many_groups_as_stages_keep_all_busy(self):
        self.assertAlmostEqual(simulate.steady_sweeps_per_second(pipeline([0.5] * 4, 4), 20), 2.0)

    def test_the_slowest_stage_sets_the_pace(self):
        self.assertAlmostEqual(simulate.steady_sweeps_per_second(pipeline([0.1, 0.5, 0.2], 3), 20), 2.0)

    def test_one_group_has_one_stage_at_work(self):
        # The second stage computes the first micro-batch while the stage before computes the second.
        self.assertAlmostEqual(simulate.steady_sweeps_per_second(pipeline([0.8, 0.8], 1, layers=1), 20), 1 / 1.2)

    def test_a_link_that_takes_longer_than_a_stage_sets_the_pace(self):
        link = simulate.Link(latency=0, bandwidth=1e6)
        rate = simulate.steady_sweeps_per_second(pipeline([0.5] * 2, 4, link, sweep_bytes=2e6), 20)
        self.assertAlmostEqual(rate, 0.5)

    def test_more_groups_hide_latency(self):
        link = simulate.Link(latency=1.0, bandwidth=1e30)
        # A round of a single micro-batch: two stages, and there and back again.
        few = simulate.steady_sweeps_per_second(pipeline([0.5] * 2, 2, link, micro_batches=1), 20)
        many = simulate.steady_sweeps_per_second(pipeline([0.5] * 2, 6, link, micro_batches=1), 20)
        self.assertAlmostEqual(few, 2 / 3.0)
        self.assertAlmostEqual(many, 2.0)

    def test_stages_that_vary_wait_for_each_other(self):
        steady = pipeline([0.5] * 8, 8)
        varying = simulate.Pipeline(**{**steady.__dict__, "variation": 0.2})
        self.assertLess(simulate.steady_sweeps_per_second(varying, 20), 0.95 * simulate.steady_sweeps_per_second(steady, 20))


class StageSeconds(unittest.TestCase):
    report = {
        "sweeps": {"prefill": {"sweeps": 2, "seconds": 4.0}, "decode": {"sweeps": 8, "seconds": 6.0}},
        "ranks": [{
            "device": "host CPU",
            "resources_by_phase": {"prefill": {"compute": {"occupied_seconds": 3.0}}, "decode": {"compute": {"occupied_seconds": 4.0}}},
            "waits": {"load_seconds": 0.5, "receive_seconds": 1.0, "send_seconds": 9.0, "turn_seconds": 0.5},
        }],
    }

    def test_are_what_is_computed_and_done_besides(self):
        # 10 s, less 2 of waits and 7 of computation: 1 s in 10 sweeps. Sends wait beside the computation.
        self.assertAlmostEqual(simulate.stage_seconds(self.report)[0], 0.5 + 0.1)

    def test_of_a_gpu_are_what_is_computed(self):
        rank = {**self.report["ranks"][0], "device": "NVIDIA T4"}
        self.assertAlmostEqual(simulate.stage_seconds({**self.report, "ranks": [rank]})[0], 0.5)


class Scaling(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.program = self.folder / "launcher.py"
        self.program.write_text(STAND_IN)
        self.program.chmod(0o755)

    def measure(self, *options, rows="32"):
        command = [sys.executable, "-B", str(CLUSTER / "scaling.py"), "--folder", str(self.folder / "runs"), "--launcher",
                   f"{sys.executable} {self.program}", "--ranks", "1,2", "--rows", rows, "--rows-per-rank", "8", "--repeat",
                   "2", "--", "--model", "m", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def rows_run(self):
        return (self.folder / "log").read_text().split()

    def test_measures_every_case_and_only_what_is_missing(self):
        run = self.measure()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.rows_run(), ["32"] * 4 + ["8"] * 2 + ["16"] * 2)
        (self.folder / "runs" / "weak-2-1.json").unlink()
        again = self.measure()
        self.assertEqual(self.rows_run(), ["32"] * 4 + ["8"] * 2 + ["16"] * 3)
        self.assertEqual(again.stdout, run.stdout)
        self.assertEqual((self.folder / "runs" / "scaling.md").read_text(), run.stdout)
        # Steady from 1 s, when rank 1 begins, to 5 s, when rank 0 ends: both compute all the time. The simulated run has
        # twenty sweeps of 0.1 s on rank 1, which begins when rank 0 has computed the first but for its last call.
        self.assertIn("| strong | 2 | 80.0 | 2.00 | 100 % | 100 to 100 % | 76.6, 80.0 | -4.2 % |", run.stdout)
        self.assertTrue((self.folder / "runs" / "scaling.svg").read_text().startswith("<svg"))

    def test_refuses_runs_of_other_options(self):
        self.assertEqual(self.measure().returncode, 0)
        other = self.measure(rows="64")
        self.assertNotEqual(other.returncode, 0)
        self.assertIn("other options", other.stderr)

    def test_busy_counts_from_the_last_stages_begin_to_the_firsts_end(self):
        lanes = [{"ph": "M", "pid": r, "tid": 3, "name": "thread_name", "args": {"name": "compute"}} for r in (0, 1)]
        spans = [(0, 0, 2), (0, 3, 1), (1, 1, 1), (1, 3, 4)]
        events = [{"ph": "X", "pid": r, "tid": 3, "ts": 1e6 * at, "dur": 1e6 * length} for r, at, length in spans]
        busy = scaling.steady_busy({"traceEvents": lanes + events})
        self.assertAlmostEqual(busy[0], 2 / 3)
        self.assertAlmostEqual(busy[1], 2 / 3)


if __name__ == "__main__":
    unittest.main()
