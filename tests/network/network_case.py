"""What the tests on networks share: jobs of the demo model in boxes, and what they leave behind."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

import site_of_boxes
from site_of_boxes import AGENT, FOLDER, Box

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 90
LATE_S = 15  # what a busy machine may add
DOES_NOT_FIT, COMMUNICATION = 4, 5
PLACEMENT = ["--percent", "20", "30", "20", "30", "20", "30", "--gpu-batch-size", "8", "--num-gpu-batches", "2"]


def results(file):
    """custom_id -> result; fails on a line that is not whole or comes twice."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    found = {line["custom_id"]: line for line in lines}
    if len(found) != len(lines):
        raise AssertionError(f"{file} has a row twice")
    return found


def make_rows(file, count, **fields):
    with open(ROOT / "configs" / "demo-rows" / "rows.jsonl", encoding="utf-8") as demo:
        rows = [dict(json.loads(next(demo)), custom_id=f"row-{i}", **fields) for i in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def options(rows, output, *more, model=ROOT / "configs" / "demo-model", offload=FOLDER / "offload"):
    return ["generate", "--model", model, "--input", rows, "--output", output, "--device", "cpu", "--dtype", "float32",
            "--return-token-ids", "--offload-dir", offload, *PLACEMENT, *more]


class NetworkCase(unittest.TestCase):
    def setUp(self):
        (FOLDER / "offload").mkdir(exist_ok=True)
        self.boxes, self.job, self.log = [Box(f"box{i}", i) for i in (1, 2, 3)], None, FOLDER / "log"

    def tearDown(self):
        for box in self.boxes:
            box.close()
        if self.job and self.job.poll() is None:
            self.job.wait(10)

    def start_in(self, box, words, **variables):
        """What has just been started in a box; what it says goes to a file."""
        with open(self.log, "wb") as log:
            self.job = subprocess.Popen([*box.enter(), *map(str, words)], cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=log, env=dict(os.environ, OMP_NUM_THREADS="1", TMPDIR=str(FOLDER),
                                                             FLEXGEN_SSH=str(AGENT), **variables))

    def start(self, words, **variables):
        """A job on all boxes, started in the first one."""
        network = {"OMPI_MCA_btl_tcp_if_include": "eth0", "OMPI_MCA_oob_tcp_if_include": "eth0", "OMPI_MCA_plm_rsh_agent": str(AGENT),
                   **variables}
        self.start_in(self.boxes[0], [ROOT / "launch" / "mpirun.sh", "--host", "box1,box2,box3", "-n", "3", program(), *words],
                      **network)

    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def left(self):
        return [words for box in self.boxes for words in box.processes().values()]

    def expect_alone(self, words, output):
        """What one rank by itself gives for the same options."""
        alone = FOLDER / "alone.jsonl"
        alone.unlink(missing_ok=True)
        alone.with_name("alone.jsonl.journal").unlink(missing_ok=True)
        site_of_boxes.run(program(), *[alone if word == output else word for word in words])
        self.assertGreater(len(results(alone)), 0)
        self.assertEqual(results(output), results(alone))


def program():
    return os.environ["FLEXGEN_TEST_PROGRAM"]


def main(*tools):
    if len(sys.argv) < 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit(f"usage: {sys.argv[0]} FLEXGEN-DIST [unittest options]")
    site_of_boxes.enter_site(*tools)
    os.environ["FLEXGEN_TEST_PROGRAM"] = str(pathlib.Path(sys.argv.pop(1)).resolve())
    site_of_boxes.name_boxes(3)
    unittest.main(module="__main__", verbosity=2)
