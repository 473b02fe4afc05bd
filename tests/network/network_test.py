#!/usr/bin/env python3
"""Jobs whose ranks run in boxes with networks between them: fast ones, slow ones, ones that lose, one that is cut.

usage: network_test.py FLEXGEN-DIST [unittest options]
Exits with 77, which CTest counts as skipped, where the user may not make network namespaces.
"""
import os
import time

from network_case import COMMUNICATION, DOES_NOT_FIT, LATE_S, PATIENCE_S, NetworkCase, main, make_rows, options, results
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


class NowhereTest(NetworkCase):
    def test_an_interface_that_leads_nowhere(self):
        """Container engines leave one on every host, with the same address. launch/cluster.sh never takes it by itself."""
        bridge = Bridge(self.boxes)
        self.addCleanup(bridge.close)
        for box in self.boxes:
            box.run("ip", "link", "add", "docker0", "type", "bridge")
            box.run("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
            box.run("ip", "link", "set", "docker0", "up")
        output = FOLDER / "nowhere.jsonl"
        words = options(make_rows(FOLDER / "rows.jsonl", 20), output)
        began = time.monotonic()
        self.start(words, OMPI_MCA_btl_tcp_if_include="docker0")
        self.assertEqual(self.job.wait(120 + PATIENCE_S), COMMUNICATION, self.text())
        self.assertLess(time.monotonic() - began, 120 + LATE_S)
        self.assertIn("not all ranks have met within 120 s, says rank 0 on box1", self.text())
        self.assertEqual(self.text().count("error: "), 1, self.text())
        self.assertTrue(wait_until(lambda: not self.left(), LATE_S), self.left())
        self.assertFalse(output.exists())
        self.start(words)
        self.assertEqual(self.job.wait(PATIENCE_S), 0, self.text())


class FullDiskTest(NetworkCase):
    def test_in_one_box(self):
        """Seen before anything is loaded, and where it is not believed, when scratch files take their room."""
        bridge = Bridge(self.boxes)
        self.addCleanup(bridge.close)
        self.boxes[1].run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", FOLDER / "offload")
        output = FOLDER / "full.jsonl"
        words = options(make_rows(FOLDER / "rows.jsonl", 20), output)
        for more, said in (([], "ssd needs"), (["--disk-mem", "1GiB"], "No space left on device; 1.00 MiB are free")):
            self.start([*words, *more])
            self.assertEqual(self.job.wait(PATIENCE_S), DOES_NOT_FIT, self.text())
            self.assertIn("rank 1 on box2: ", self.text())
            self.assertIn(said, self.text())
            self.assertEqual(self.text().count("error: "), 1, self.text())
            self.assertTrue(wait_until(lambda: not self.left(), LATE_S), self.left())
            self.assertEqual(self.boxes[1].run("ls", FOLDER / "offload"), "")
            self.assertFalse(output.exists())
        self.boxes[1].run("umount", FOLDER / "offload")
        self.start(words)
        self.assertEqual(self.job.wait(PATIENCE_S), 0, self.text())
        self.expect_alone(words, output)


if __name__ == "__main__":
    main()
