#!/usr/bin/env python3
"""What is wrong before anything runs: options, model, checkpoint, budgets. A clear message and its exit code.

usage: setup_faults_test.py FLEXGEN-DIST
"""
import json
import os
import pathlib
import re
import shutil

import fault_case
from fault_case import DEMO_MODEL, FaultCase, copy_model, main

USAGE, MODEL, DOES_NOT_FIT, FILE = 2, 3, 4, 6


class UsageTest(FaultCase):
    def test_unknown_command(self):
        self.expect(USAGE, ["generat"], "'generat' is not a command", "bench")

    def test_unknown_option(self):
        self.expect(USAGE, self.words(self.rows(1), "--num-gpu-batch", "3"), "num-gpu-batch", "--help")

    def test_flag_that_cannot_be_honoured(self):
        self.expect(USAGE, self.words(self.rows(1), "--cpu-cache-compute", placement=["--percent", "0", "0", "0", "50", "0", "0"]),
                    "--cpu-cache-compute cannot", "ssd")
        self.expect(USAGE, self.words(self.rows(1), "--save-compressed", self.folder / "new"), "--compress-weight is missing")

    def test_impossible_percent(self):
        self.expect(USAGE, self.words(self.rows(1), placement=["--percent", "60", "50", "0", "0", "0", "0"]), "60", "50")

    def test_help(self):
        text = self.expect(0, ["--help"])
        for words in (["-h"], ["help"]):
            self.assertEqual(self.expect(0, words), text)
        text = self.expect(0, ["generate", "--help"])
        self.assertIn("--overwrite", text)
        for words in (["generate", "-h"], ["help", "generate"]):
            self.assertEqual(self.expect(0, words), text)
        self.expect(USAGE, ["help", "generat"], "'generat' is not a command")

    def test_percent_in_quotes(self):
        self.expect(0, self.words(self.rows(1), placement=["--percent", "100 0 100 0 100 0"]))

    def test_errors_name_their_option(self):
        self.expect(USAGE, self.words(self.rows(1), "--gen-len", "1e3"), "--gen-len 1e3 is not a whole number")
        self.expect(USAGE, self.words(self.rows(1), "--gpu-mem", "15XB"), "--gpu-mem 15XB is not a size")

    def test_files_that_would_overwrite_one_another(self):
        rows = self.rows(1)
        before = rows.read_bytes()
        link = self.folder / "link"
        os.link(rows, link)
        for name in (rows, link):
            self.expect(USAGE, self.words(rows, "--trace", name), "--input and --trace are the same file")
        self.expect(USAGE, self.words(rows, "--report", "x", "--trace", "x"), "--trace and --report are the same file")
        self.expect(USAGE, self.words(rows, "--report", "-", output="-"), "--output and --report both go to standard output")
        self.expect(FILE, self.words(self.rows(1), "--report", rows), "--report", "no report of flexgen-dist")
        self.assertEqual(rows.read_bytes(), before)

    def test_input_that_is_the_output(self):
        rows = self.rows(1)
        before = rows.read_bytes()
        self.expect(USAGE, self.words(rows, "--overwrite", output=rows), "same file")
        self.assertEqual(rows.read_bytes(), before)

    def test_more_tokens_than_the_model_has_positions(self):
        self.expect(USAGE, ["bench", "--model", DEMO_MODEL, "--dummy", "--prompt-len", "2000", "--gen-len", "100"], "2048")

    def test_config_file(self):
        self.expect(FILE, self.words(self.rows(1), "--config", self.folder / "none.json"), "none.json")
        config = self.folder / "options.json"
        config.write_text('{"gen-len": 3, "percnt": [1, 2]}')
        self.expect(USAGE, self.words(self.rows(1), "--config", config), "percnt")


class ProgramTest(FaultCase):
    def test_no_folder_of_the_machine_that_built_it_is_in_it(self):
        program = pathlib.Path(fault_case.PROGRAM).read_bytes()
        if b".debug_info" in program:
            self.skipTest("built for a debugger, which needs them")
        self.assertNotIn(f"{fault_case.ROOT}/src/".encode(), program)


class ModelTest(FaultCase):
    def test_no_such_model(self):
        self.expect(MODEL, self.words(self.rows(1), model="facebook/opt-9t"), "facebook/opt-9t/config.json")

    def test_shapes_are_found_from_anywhere(self):
        self.expect(DOES_NOT_FIT, ["bench", "--model", "opt-175b", "--dummy", "--device", "cpu", "--gpu-mem", "1MiB", "--cpu-mem",
                                   "1MiB", "--disk-mem", "1MiB", "--offload-dir", self.offload], "gpu needs")

    def test_other_architecture(self):
        model = copy_model(self.folder / "llama")
        config = json.loads((model / "config.json").read_text())
        for change, part in (({"model_type": "llama"}, "'llama'"), ({"hidden_size": "wide"}, "'hidden_size'"),
                             ({"num_attention_heads": 3}, "multiple"), ({"activation_function": "silu"}, "silu")):
            (model / "config.json").write_text(json.dumps({**config, **change}))
            self.expect(MODEL, self.words(self.rows(1), model=model), part, "llama/config.json")
        (model / "config.json").write_text("{")
        self.expect(MODEL, self.words(self.rows(1), model=model), "not a JSON object")

    def test_no_tokenizer(self):
        model = copy_model(self.folder / "mute", leave_out=("vocab.json",))
        self.expect(MODEL, self.words(self.rows(1), model=model), "vocab.json")

    def test_no_weights(self):
        model = copy_model(self.folder / "empty", leave_out=("model.safetensors",))
        self.expect(MODEL, self.words(self.rows(1), model=model), str(model))

    def test_truncated_checkpoint(self):
        whole = (DEMO_MODEL / "model.safetensors").stat().st_size
        model = copy_model(self.folder / "cut")
        for size in (whole - 1, whole // 2, 2000, 5, 0):
            with open(model / "model.safetensors", "r+b") as stream:
                stream.truncate(size)
            self.expect(MODEL, self.words(self.rows(1), model=model), "model.safetensors")

    def test_checkpoint_of_another_shape(self):
        model = copy_model(self.folder / "other")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "ffn_dim": 2048}))
        self.expect(MODEL, self.words(self.rows(1), model=model), "fc1")
        (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 9}))
        self.expect(MODEL, self.words(self.rows(1), model=model), "layers.8")

    def test_the_output_of_a_refused_job_is_not_in_the_way(self):
        model = copy_model(self.folder / "empty", leave_out=("model.safetensors",))
        self.expect(MODEL, self.words(self.rows(1), model=model))
        self.assertFalse(self.output.exists())
        self.expect(0, self.words(self.rows(1)))


class OldResultsTest(FaultCase):
    """A job that never starts touches nothing: old results stay, a new file does not."""

    def expect_untouched(self, code, words, *parts, ranks=1):
        for before in (None, "precious\n"):
            if before:
                self.output.write_text(before)
            self.expect(code, [*words, "--overwrite"], *parts, ranks=ranks)
            self.assertEqual(self.output.read_text() if self.output.exists() else None, before)
        self.output.unlink()

    def bad_row_first(self):
        rows = self.rows(2)
        rows.write_text('{"custom_id": "bad"}\n' + rows.read_text())
        return rows

    def test_a_job_that_does_not_fit(self):
        budgets = ["--gpu-mem", "100KiB", "--cpu-mem", "100KiB", "--disk-mem", "100KiB"]
        for ranks in (1, 3):
            self.expect_untouched(DOES_NOT_FIT, self.words(self.bad_row_first(), *budgets), "not even one row", ranks=ranks)

    def test_a_truncated_checkpoint(self):
        model = copy_model(self.folder / "cut")
        with open(model / "model.safetensors", "r+b") as stream:
            stream.truncate(2000)
        for ranks in (1, 3):
            self.expect_untouched(MODEL, self.words(self.bad_row_first(), model=model), "model.safetensors", ranks=ranks)

    def test_a_profile_that_is_missing(self):
        self.expect_untouched(FILE, self.words(self.bad_row_first(), "--profile", self.folder / "none.json"), "none.json")

    def test_an_offload_dir_that_cannot_be_used(self):
        words = self.words(self.bad_row_first(), placement=["--percent", "0", "0", "0", "0", "0", "0"])
        file = self.folder / "file"
        file.touch()
        words[words.index(self.offload)] = file
        self.expect_untouched(FILE, words, "not a directory")

    def test_a_gpu_that_is_not_there(self):
        if shutil.which("nvidia-smi"):
            self.skipTest("there may be a GPU")
        words = self.words(self.bad_row_first())
        words[words.index("cpu")] = "cuda"
        self.expect_untouched(USAGE, words, "--device cuda cannot be honoured")


class FitTest(FaultCase):
    def test_the_message_has_the_numbers_and_a_policy_that_runs(self):
        everything_on_gpu = ["--percent", "100", "0", "100", "0", "100", "0", "--gpu-batch-size", "8", "--num-gpu-batches", "4"]
        budgets = ["--gpu-mem", "24MiB", "--cpu-mem", "1GiB", "--disk-mem", "1GiB", "--dtype", "float32"]
        rows = self.rows(3)
        text = self.expect(DOES_NOT_FIT, self.words(rows, *budgets, placement=everything_on_gpu), "gpu needs",
                           "but may use 24.00 MiB", "--percent 100 0 100 0 100 0")
        nearest = re.search(r"nearest one that fits: (--percent .*)", text).group(1).split()
        self.expect(0, self.words(rows, *budgets, placement=nearest))
        self.assertEqual(len(self.results()), 3)

    def test_nothing_fits(self):
        budgets = ["--gpu-mem", "100KiB", "--cpu-mem", "100KiB", "--disk-mem", "100KiB"]
        self.expect(DOES_NOT_FIT, self.words(self.rows(1), *budgets), "not even one row", "--gpu-mem")

    def test_a_policy_is_found_within_small_budgets(self):
        budgets = ["--gpu-mem", "24MiB", "--cpu-mem", "300MiB", "--disk-mem", "1GiB", "--dtype", "float32"]
        self.expect(0, self.words(self.rows(3), *budgets, placement=[]))
        self.assertEqual(len(self.results()), 3)

    def test_cuda_that_is_not_there(self):
        if shutil.which("nvidia-smi"):
            self.skipTest("there may be a GPU")
        words = self.words(self.rows(1))
        words[words.index("cpu")] = "cuda"
        self.expect(USAGE, words, "--device cuda cannot be honoured")


if __name__ == "__main__":
    main()
