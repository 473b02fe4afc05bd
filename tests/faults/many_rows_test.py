#!/usr/bin/env python3
"""A million short rows through `generate` on a tiny model: memory flat, as fast at the end as at the beginning.

Usage: many_rows_test.py PROGRAM. FLEXGEN_ROWS says how many rows (default 1,000,000); prints what was measured.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = ""
MODEL = pathlib.Path(__file__).resolve().parent.parent / "parity/data/models/one_head"
MIB = 1 << 20


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def count_lines(path):
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


class ManyRowsTest(unittest.TestCase):
    def test_memory_and_pace_stay(self):
        num_rows = int(os.environ.get("FLEXGEN_ROWS", 1_000_000))
        with tempfile.TemporaryDirectory(prefix="flexgen-rows-") as folder:
            rows, out = pathlib.Path(folder, "rows.jsonl"), pathlib.Path(folder, "out.jsonl")
            with open(rows, "w") as file:
                for i in range(num_rows):
                    file.write('{"custom_id":"r%d","prompt":[%d,%d,5],"max_tokens":1}\n' % (i, 3 + i % 90, 3 + i // 90 % 90))
            begin = time.monotonic()
            job = subprocess.Popen(
                [PROGRAM, "generate", "--model", MODEL, "--input", rows, "--output", out, "--dtype", "float32", "--quiet",
                 "--percent", "100", "0", "100", "0", "100", "0", "--gpu-batch-size", "256", "--num-gpu-batches", "1"])
            samples = []  # (seconds, bytes of results, resident bytes), once results come
            first_result = None
            while job.poll() is None:
                size = out.stat().st_size if out.exists() else 0
                if size > 0:
                    first_result = first_result or time.monotonic() - begin
                    try:
                        samples.append((time.monotonic(), size, resident_bytes(job.pid)))
                    except OSError:
                        break
                time.sleep(0.1)
            self.assertEqual(job.wait(), 0)
            self.assertEqual(count_lines(out), num_rows)

            total = samples[-1][1]
            at = [next(s for s in samples if s[1] >= total * share) for share in (0.05, 0.3, 0.7, 0.95)]
            first, last = ((b[1] - a[1]) / (b[0] - a[0]) for a, b in ((at[0], at[1]), (at[2], at[3])))
            resident = [s[2] for s in samples if s[0] >= at[0][0]]
            growth = (max(resident) - resident[0]) / MIB
            print(f"{num_rows} rows, {num_rows / (time.monotonic() - begin):.0f} a second; first result after "
                  f"{first_result:.1f} s; resident {resident[0] / MIB:.0f} MiB, at most {growth:.1f} MiB more; pace at the "
                  f"end {last / first:.3f} of that at the beginning")
            self.assertLess(growth, 100)
            # Results' lines grow by a digit of their id now and then; a busy machine is no fault of the program.
            self.assertGreater(last / first, 0.8)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
