#!/usr/bin/env python3
"""Jobs whose ranks run in boxes with networks between them: fast ones, slow ones, ones that lose, one that is cut.

usage: network_test.py FLEXGEN-DIST [unittest options]
Exits with 77, which CTest counts as skipped, where the user may not make network namespaces.
"""
import os
import time

from network_case import COMMUNICATION, LATE_S, PATIENCE_S, NetworkCase, main, make_rows, options, results
from site_of_boxes import FOLDER, Bridge, Wire, wait_until


class SameTokensTest(NetworkCase):
    def expect_same_tokens(self):
        output = FOLDER / "together.jsonl"
        words = options(make_rows(FOLDER / "rows.jsonl", 120), output, "--overwrite", "--restart")
        self.start(words)
        self.assertEqual(self.job.wait(PATIENCE_S), 0, self.text())
        self.expect_alone(words, output)
        self.assertEqual(len(results(output)), 120)
        self.assertTrue(wait_until(lambda: not self.left(), LATE_S), self.left())

    def over_a_bridge(self, rate):
        bridge = Bridge(self.boxes)
        self.addCleanup(bridge.close)
        for box in self.boxes:
            box.shape(rate)
        self.expect_same_tokens()
        for box, least in zip(self.boxes, (1 << 20, 1 << 20, 10_000)):  # the last rank sends tokens alone
            self.assertGreater(int(box.run("cat", "/sys/class/net/eth0/statistics/tx_bytes")), least)

    def test_ten_gigabits(self):
        self.over_a_bridge("10gbit")

    def test_one_gigabit(self):
        self.over_a_bridge("1gbit")

    def test_late_and_lossy(self):
        wire = Wire(self.boxes, delay_ms=1, loss=0.001)
        for box in self.boxes:
            box.shape("1gbit")
        self.expect_same_tokens()
        num_brought, num_lost = wire.close()
        self.assertGreater(num_brought, 1000)
        self.assertGreater(num_lost, 0)


class CutTest(NetworkCase):
    def cut_in_mid_job(self, *more, **variables):
        """Runs a job until rows are done and cuts box2 off: the job's options, and when it was cut."""
        self.bridge = Bridge(self.boxes)
        self.addCleanup(self.bridge.close)
        self.output = FOLDER / f"{self.id()}.jsonl"
        words = options(make_rows(FOLDER / "rows.jsonl", 300, max_tokens=40, stop=None), self.output, *more)
        self.start(words, **variables)
        self.assertTrue(wait_until(lambda: self.job.poll() is not None or results(self.output), PATIENCE_S), self.text())
        self.assertIsNone(self.job.poll(), self.text())
        self.bridge.cut(self.boxes[1])
        return words, time.monotonic()

    def expect_end(self, began, seconds):
        self.assertEqual(self.job.wait(PATIENCE_S), COMMUNICATION, self.text())
        self.assertLess(time.monotonic() - began, seconds, self.text())
        ranks = lambda: [words for words in self.left() if "generate" in words]
        self.assertTrue(wait_until(lambda: not ranks(), LATE_S), ranks())
        self.assertEqual(os.listdir(FOLDER / "offload"), [])

    def test_noticed_by_the_launcher_and_gone_on_with(self):
        """After 5 s of silence; as launch/mpirun.sh comes, 25 s."""
        words, began = self.cut_in_mid_job(OMPI_MCA_oob_tcp_keepalive_time="2", OMPI_MCA_oob_tcp_keepalive_intvl="1",
                                           OMPI_MCA_oob_tcp_keepalive_probes="3")
        self.expect_end(began, 5 + LATE_S)
        self.assertRegex(self.text(), "Remote daemon: .* on node box2")
        self.assertTrue(wait_until(lambda: not self.left(), 5 + LATE_S), self.left())
        self.assertTrue(0 < len(results(self.output)) < 300)
        self.bridge.mend(self.boxes[1])
        self.start(words)
        self.assertEqual(self.job.wait(PATIENCE_S), 0, self.text())
        self.expect_alone(words, self.output)

    def test_noticed_by_the_ranks(self):
        """What mpirun itself leaves in the box that is cut off ends once that can be reached again."""
        _, began = self.cut_in_mid_job("--rank-timeout", 4, FLEXGEN_END_GRACE_S="3")
        self.expect_end(began, 4 + 3 + LATE_S)
        self.assertIn("rank 1 on box2 has not answered for 4 s", self.text())
        self.bridge.mend(self.boxes[1])
        self.assertTrue(wait_until(lambda: not self.left(), PATIENCE_S), self.left())


if __name__ == "__main__":
    main()
