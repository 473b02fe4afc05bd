"""benchmark/micro/compare.py finds an op that lost against its ceiling, and only that."""
import contextlib
import importlib.util
import io
import json
import pathlib
import tempfile
import unittest
from unittest import mock

PROJECT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("compare", PROJECT / "benchmark" / "micro" / "compare.py")
compare = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(compare)


def entry(name, microseconds, bytes_rate=None, items_rate=None, label=""):
    result = {"name": name + "/real_time", "run_name": name + "/real_time", "run_type": "iteration",
              "real_time": microseconds, "time_unit": "us"}
    if bytes_rate:
        result["bytes_per_second"] = bytes_rate
    if items_rate:
        result["items_per_second"] = items_rate
    if label:
        result["label"] = label
    return result


def run(linear=80e9, ceiling=100e9):
    return {"benchmarks": [
        entry("memory_read", 10.0, ceiling), entry("memory_read", 20.0, ceiling / 2),
        entry("multiply_adds/32", 10.0, None, 200e9),
        entry("linear/8", 64e9 / linear * 10, linear, 50e9, "memory_read multiply_adds/32"),
        entry("linear/512", 30.0, 1e9, 150e9, "memory_read multiply_adds/32"),
        {"name": "memory_read/real_time_mean", "run_type": "aggregate", "real_time": 1.0, "time_unit": "us"},
    ]}


class CompareTest(unittest.TestCase):
    def test_fraction_is_of_the_ceiling_that_binds(self):
        summary = compare.summarise(run())
        self.assertAlmostEqual(summary["linear/8"]["fraction"], 0.8)
        self.assertAlmostEqual(summary["linear/512"]["fraction"], 0.75)
        self.assertNotIn("fraction", summary["memory_read"])
        self.assertEqual(summary["memory_read"]["microseconds"], 10.0)  # the fastest repetition

    def test_a_loss_beyond_the_threshold_is_named(self):
        before, after = compare.summarise(run()), compare.summarise(run(linear=70e9))
        self.assertEqual(compare.compare(before, after, 0.1)[1], ["linear/8"])
        self.assertEqual(compare.compare(before, after, 0.2)[1], [])

    def test_a_slower_machine_is_no_loss(self):
        before, after = compare.summarise(run()), compare.summarise(run(linear=40e9, ceiling=50e9))
        self.assertEqual(compare.compare(before, after, 0.01)[1], [])

    def test_ops_that_only_one_run_has(self):
        before, after = compare.summarise(run()), compare.summarise(run())
        del before["linear/8"], after["linear/512"]
        lines, lost = compare.compare(before, after, 0.1)
        self.assertEqual(lost, [])
        self.assertTrue(any("linear/8" in line and "new" in line for line in lines))
        self.assertTrue(any("linear/512" in line and "not in" in line for line in lines))

    def test_command_line_and_summary(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(pathlib.Path(folder) / name) for name in ("base.json", "same.json", "worse.json")]
            pathlib.Path(paths[0]).write_text(compare.as_file(compare.summarise(run())), encoding="utf-8")
            pathlib.Path(paths[1]).write_text(json.dumps(run()), encoding="utf-8")
            pathlib.Path(paths[2]).write_text(json.dumps(run(linear=20e9)), encoding="utf-8")
            for new, expected in ((paths[1], 0), (paths[2], 1)):
                with mock.patch("sys.argv", ["compare.py", paths[0], new]), \
                        contextlib.redirect_stdout(io.StringIO()) as out:
                    self.assertEqual(compare.main(), expected)
                self.assertEqual("LOST" in out.getvalue(), expected == 1)

    def test_committed_baselines_are_summaries(self):
        paths = list((PROJECT / "benchmark" / "micro" / "baselines").glob("*.json"))
        self.assertTrue(paths)
        for path in paths:
            summary = compare.load(path)
            self.assertTrue(all(0.0 < op.get("fraction", 1.0) for op in summary.values()), path)
            self.assertTrue(any("fraction" in op for op in summary.values()), path)


if __name__ == "__main__":
    unittest.main()
