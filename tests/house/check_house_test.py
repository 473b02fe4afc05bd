#!/usr/bin/env python3
"""Proves that check_house.py finds what it looks for: a sound little house passes, each single fault is reported."""
import pathlib
import tempfile
import unittest

import check_house

SOUND_HOUSE = {
    "src/README.md": "# Map\n\n| room | what |\n|---|---|\n| `base/` | a |\n| `spec/` | b |\n| `comm/` | c |\n",
    "src/base/CMakeLists.txt": "flexgen_room(base SOURCES error.cpp LINKS flexgen::spdlog)\n",
    "src/base/error.hpp": "#pragma once\n#include <string>\n",
    "src/spec/CMakeLists.txt": "flexgen_room(spec\n  SOURCES dtype.cpp\n  USES base\n  LINKS flexgen::json)\n",
    "src/spec/dtype.hpp": '#pragma once\n#include "base/error.hpp"\n',
    "src/comm/CMakeLists.txt": "flexgen_room(comm SOURCES session.cpp USES base LINKS MPI::MPI_CXX)\n",
    "src/comm/session.cpp": "#include <mpi.h>\n",
}


class HouseTest(unittest.TestCase):
    def findings_of(self, changes):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in {**SOUND_HOUSE, **changes}.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return list(check_house.findings(root))

    def assert_one_finding(self, changes, part):
        found = self.findings_of(changes)
        self.assertEqual(len(found), 1, found)
        self.assertIn(part, found[0])

    def test_sound_house_passes(self):
        self.assertEqual(self.findings_of({}), [])

    def test_include_against_an_arrow(self):
        self.assert_one_finding({"src/base/error.hpp": '#pragma once\n#include "spec/dtype.hpp"\n'},
                                "src/base/error.hpp:2: base may not include spec/dtype.hpp")

    def test_include_without_use(self):
        self.assert_one_finding({"src/comm/hello.cpp": '#include "spec/dtype.hpp"\n'}, "does not use spec")

    def test_room_of_two_targets(self):
        self.assertEqual(self.findings_of({
            "src/spec/CMakeLists.txt": "flexgen_room(spec SOURCES a.cpp USES texts base)\nadd_subdirectory(texts)\n",
            "src/spec/texts/CMakeLists.txt": "flexgen_room(texts SOURCES b.cpp USES base)\n"}), [])

    def test_use_against_an_arrow(self):
        self.assert_one_finding({"src/base/CMakeLists.txt": "flexgen_room(base SOURCES error.cpp USES comm)\n"},
                                "src/base/CMakeLists.txt: uses comm")

    def test_tests_that_lean_on_what_uses_their_room(self):
        self.assert_one_finding({"tests/policy/plan_test.cpp": '#include "engine/stage.hpp"\n'},
                                "tests/policy/plan_test.cpp:1: tests of policy may not include engine/stage.hpp")
        self.assert_one_finding({"tests/policy/CMakeLists.txt": "flexgen_test(policy SOURCES a.cpp USES policy app LABEL unit)\n"},
                                "tests/policy/CMakeLists.txt: uses app")
        self.assertEqual(self.findings_of({
            "tests/policy/CMakeLists.txt": "flexgen_test(policy SOURCES a.cpp USES policy model)\n",
            "tests/policy/plan_test.cpp": '#include "model/layer.hpp"\n#include "tests/policy/cases.hpp"\n'}), [])

    def test_mpi_outside_comm(self):
        self.assert_one_finding({"src/spec/dtype.cpp": "#include <mpi.h>\n"}, "MPI header mpi.h in spec")

    def test_nccl_outside_comm(self):
        self.assert_one_finding({"src/spec/dtype.cpp": "  # include <nccl.h>\n"}, "NCCL header nccl.h in spec")

    def test_torch_in_a_plain_room(self):
        for header in ("torch/torch.h", "ATen/ATen.h", "c10/core/Device.h"):
            self.assert_one_finding({"src/comm/session.cpp": f"#include <{header}>\n"}, f"Torch header {header} in comm")

    def test_torch_in_a_cuda_source(self):
        changes = {"src/ops/linear.cu": "#include <ATen/ATen.h>\n",
                   "src/README.md": SOUND_HOUSE["src/README.md"] + "| `ops/` | d |\n"}
        self.assert_one_finding(changes, "in a CUDA source")

    def test_cuda_in_plain_data(self):
        self.assert_one_finding({"src/spec/dtype.cpp": "#include <cuda_fp16.h>\n"}, "CUDA header cuda_fp16.h in spec")

    def test_long_file(self):
        self.assert_one_finding({"src/spec/dtype.cpp": "\n" * 401}, "401 lines")
        self.assertEqual(self.findings_of({"src/spec/dtype.cpp": "\n" * 400}), [])

    def test_header_without_guard(self):
        self.assert_one_finding({"src/spec/dtype.hpp": "#include <string>\n"}, "no #pragma once")

    def test_unknown_room(self):
        changes = {"src/attic/box.cpp": "\n", "src/README.md": SOUND_HOUSE["src/README.md"] + "| `attic/` | d |\n"}
        self.assert_one_finding(changes, "src/attic/ is no room")

    def test_map(self):
        self.assert_one_finding({"src/README.md": SOUND_HOUSE["src/README.md"] + "| `ops/` | d |\n"},
                                "names `ops/`, which does not exist")
        self.assert_one_finding({"src/README.md": SOUND_HOUSE["src/README.md"].replace("| `comm/` | c |\n", "")},
                                "lacks `comm/`")


if __name__ == "__main__":
    unittest.main()
