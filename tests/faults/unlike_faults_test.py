#!/usr/bin/env python3
"""Three ranks, one of which is unlike the others: another program, other weights or options, less memory. All end, by its name.

usage: unlike_faults_test.py FLEXGEN-DIST
"""
import os
import pathlib
import re
import socket
import subprocess

import fault_case
from fault_case import DEMO_MODEL, FaultCase, Job, copy_model, main, overwrite_tensor

DOES_NOT_FIT, COMMUNICATION = 4, 5
LAST = f"rank 2 on {socket.gethostname()}"
MIB_IN_KIB = 1024


class UnlikeCase(FaultCase):
    def with_another(self, words, others, program=None):
        """The words of ranks 0 and 1, and behind them those of rank 2."""
        return [*words, ":", "-n", "1", *(program or [fault_case.PROGRAM]), *others]

    def expect_refusal(self, what, words):
        self.expect(COMMUNICATION, words, f"the ranks differ in {what}: ", LAST, ranks=2)
        self.assertFalse(self.output.exists())


class OtherFilesTest(UnlikeCase):
    def test_another_program(self):
        """Of the same version, built of another commit."""
        version = subprocess.run([fault_case.PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout
        commit = re.search(r"\(([0-9a-z]+)", version)[1].encode()
        other = self.folder / "other"
        other.write_bytes(pathlib.Path(fault_case.PROGRAM).read_bytes().replace(commit, commit[::-1]))
        other.chmod(0o755)
        words = self.words(self.rows(4))
        self.expect_refusal("the program's version", self.with_another(words, words, [other]))

    def test_other_weights_in_the_same_shape(self):
        other = copy_model(self.folder / DEMO_MODEL.name)
        weights = other / "model.safetensors"
        for layer in range(8):  # samples of the files are compared
            overwrite_tensor(weights, f"model.decoder.layers.{layer}.fc1.weight", b"\x80\x3f")
        rows = self.rows(4)
        self.expect_refusal("the model's weights", self.with_another(self.words(rows), self.words(rows, model=other)))
        # The same ones in another place are the same.
        weights.write_bytes((DEMO_MODEL / "model.safetensors").read_bytes())
        self.expect(0, self.with_another(self.words(rows), self.words(rows, model=other)), ranks=2)

    def test_another_policy(self):
        words = self.words(self.rows(4))
        self.expect_refusal("the policy that is asked for", self.with_another(words, [*words, "--gpu-batch-size", "5"]))


class LittleMemoryTest(UnlikeCase):
    def test_a_budget_that_is_too_small_on_one_rank(self):
        words = self.words(self.rows(4))
        self.expect(DOES_NOT_FIT, self.with_another(words, [*words, "--cpu-mem", "100KiB"]), f"{LAST}: ", "dram", ranks=2)

    def test_a_system_that_refuses_memory_on_one_rank(self):
        """Where it does so depends on how much it refuses; there is always a word for it, and rank and host."""
        poor = self.folder / "poor"
        poor.write_text('#!/bin/sh\nulimit -v "$1"; shift\nexec "$@"\n')
        poor.chmod(0o755)
        job = Job(self, self.long_words(), ranks=3)
        pids = job.pids()
        self.started(job)
        status = pathlib.Path(f"/proc/{pids[2]}/status").read_text()
        peak_kib = int(re.search(r"VmPeak:\s+(\d+) kB", status)[1])
        job.process.kill()
        job.wait()
        self.expect_gone(pids.values())
        words = [*self.words(self.rows(4)), "--overwrite", "--restart"]
        num_refused = 0
        for less_mib in (16, 64, 112, 160):
            another = self.with_another(words, words, [poor, peak_kib - less_mib * MIB_IN_KIB, fault_case.PROGRAM])
            code, text = self.run_job(another, 2)
            if code == 0:  # what was refused was only more than it needs
                continue
            num_refused += 1
            self.assertEqual(code, DOES_NOT_FIT, text)
            self.assertEqual(text.count("error: "), 1, text)
            self.assertIn(LAST, text)
            self.assertRegex(text, "memory")
            self.assertEqual(os.listdir(self.offload), [])
        self.assertGreater(num_refused, 0)


if __name__ == "__main__":
    main()
