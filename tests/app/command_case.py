"""What the tests of commands have in common: a folder of their own, and the program on one rank or several.

The program is the first argument; no command finds a profile of the user's machine.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MPIRUN = ROOT / "launch" / "mpirun.sh"
DEMO_MODEL = ROOT / "configs" / "demo-model"
DEMO_ROWS = ROOT / "configs" / "demo-rows" / "rows.jsonl"
PATIENCE_S = 60


class CommandCase(unittest.TestCase):
    program = ""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="flexgen-command-")
        self.addCleanup(folder.cleanup)
        self.place = pathlib.Path(folder.name)

    def outcome(self, *words, ranks=1, **environment):
        """Of the program with these words."""
        launcher = [MPIRUN, "-n", ranks] if ranks > 1 else []
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.place), "OMP_WAIT_POLICY": "passive", **environment}
        return subprocess.run([str(word) for word in [*launcher, self.program, *words]], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE_S, env=environment, check=False)

    def run_it(self, *words, code=0, ranks=1, **environment):
        done = self.outcome(*words, ranks=ranks, **environment)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def write_rows(self, rows):
        path = self.place / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    @staticmethod
    def texts(output):
        """Answers by row."""
        results = [json.loads(line) for line in output.read_text().splitlines()]
        return {result["custom_id"]: result["text"] for result in results}


def main(**options):
    CommandCase.program = sys.argv.pop(1)
    unittest.main(module="__main__", **options)
