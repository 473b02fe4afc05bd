"""launch/setup.sh: for which GPUs the CUDA engine is compiled, and that a clone is one whatever link leads to it.

usage: setup_test.py
"""
import os
import pathlib
import subprocess
import tempfile
import unittest

SETUP = pathlib.Path(__file__).resolve().parents[2] / "launch/setup.sh"


class SetupTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="flexgen-setup-")
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)
        (self.folder / "bin").mkdir()

    def gpus(self, *capabilities):
        """Has nvidia-smi name these; without any there is no driver."""
        program = self.folder / "bin/nvidia-smi"
        lines = "".join(f"echo {one}\n" for one in capabilities)
        program.write_text("#!/bin/sh\n" + (lines or "echo 'NVIDIA-SMI has failed'; exit 9\n"))
        program.chmod(0o755)

    def configured(self, stamp):
        build = self.folder / "build"
        build.mkdir(exist_ok=True)
        (build / "build.ninja").touch()
        (build / ".configured").write_text(stamp + "\n")

    def chosen(self, setup=SETUP, show="$CUDA_ARCHITECTURES", **variables):
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEXGEN_")}
        script = f'set -euo pipefail; source "{setup}"; BUILD_DIR="{self.folder}/build"; choose_architectures; echo "{show}"'
        return subprocess.run(["bash", "-c", script], env=environment | {"PATH": path} | variables, text=True, check=True,
                              stdout=subprocess.PIPE).stdout.strip()

    def test_without_a_gpu_the_engine_is_left_out_unless_asked_for(self):
        self.gpus()
        self.assertEqual(self.chosen(), "")
        self.assertEqual(self.chosen(FLEXGEN_CUDA="ON"), "75;80;86;89;90")
        self.assertEqual(self.chosen(FLEXGEN_CUDA_ARCHITECTURES="80"), "80")

    def test_the_gpus_that_are_there_are_compiled_for(self):
        self.gpus("9.0", "7.5", "9.0", "12.0")
        self.assertEqual(self.chosen(), "75;90;120")
        self.assertEqual(self.chosen(FLEXGEN_CUDA="ON"), "75;90;120")
        self.assertEqual(self.chosen(FLEXGEN_CUDA_ARCHITECTURES="80"), "80")

    def test_a_gpu_that_the_compiler_does_not_know_is_none(self):
        self.gpus("6.1", "5.2")
        self.assertEqual(self.chosen(), "")
        self.gpus("6.1", "8.6")
        self.assertEqual(self.chosen(), "86")

    def test_what_is_compiled_already_serves(self):
        self.configured("cuda 12 -DLibTorch_DIRECTORY=x -DCMAKE_CUDA_ARCHITECTURES=75;80;86;89;90")
        self.gpus()
        self.assertEqual(self.chosen(), "75;80;86;89;90")
        self.gpus("8.0")
        self.assertEqual(self.chosen(), "75;80;86;89;90")
        self.gpus("12.0")
        self.assertEqual(self.chosen(), "120")
        self.configured("cpu 12 -DLibTorch_DIRECTORY=x")
        self.gpus()
        self.assertEqual(self.chosen(), "")

    def test_a_link_leads_to_the_same_project(self):
        link = self.folder / "link"
        link.symlink_to(SETUP.parents[1])
        shown = {self.chosen(setup, show="$PROJECT_DIR") for setup in (SETUP, link / "launch/setup.sh")}
        self.assertEqual(shown, {str(SETUP.parents[1])})


if __name__ == "__main__":
    unittest.main()
