#!/usr/bin/env python3
"""The forms in which OPT folders are found, through the program: tokens and texts equal transformers' (folders.json).

usage: model_folders_test.py FLEXGEN-DIST
"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import model_folders
import tokenizer_folders

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
REFERENCE = json.loads((HERE / "data" / "folders.json").read_text(encoding="utf-8"))
TOKEN_IDS = json.loads((HERE / "data" / "tokenizers.json").read_text(encoding="utf-8"))
BINARY = ""


class FolderCase(unittest.TestCase):
    def setUp(self):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="flexgen-test-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)

    def build(self, name):
        return model_folders.build(name, self.place, REFERENCE[name]["seed"], REFERENCE[name]["ends"])

    def run_program(self, command, model, rows, *options, ranks=1, code=0):
        """Results in the order of the rows, and what was said on the way."""
        (self.place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        output = self.place / "results.jsonl"
        words = [PROJECT / "launch" / "mpirun.sh", "-n", str(ranks)] if ranks > 1 else []
        words += [BINARY, command, "--model", model, "--input", self.place / "rows.jsonl", "--output", output, "--overwrite",
                  "--return-token-ids", "--device", "cpu", "--dtype", "float32", *options]
        done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        self.assertEqual(done.returncode, code, done.stdout)
        if code not in (0, 1):
            return [], done.stdout
        results = {}
        for line in output.read_text(encoding="utf-8").splitlines():
            results[json.loads(line)["custom_id"]] = json.loads(line)
        self.assertEqual(len(results), len(rows))
        return [results[row["custom_id"]] for row in rows], done.stdout

    def rows_of(self, name):
        return [{"custom_id": str(i), "prompt": row["prompt"], "max_tokens": 12}
                for i, row in enumerate(REFERENCE[name]["rows"])]

    def expect_reference(self, name, model, *options, ranks=1):
        results, said = self.run_program("generate", model, self.rows_of(name), *options, ranks=ranks)
        for row, result in zip(REFERENCE[name]["rows"], results):
            self.assertEqual(result["prompt_token_ids"], row["prompt_ids"], row["prompt"])
            self.assertEqual(result["token_ids"], row["ids"], row["prompt"])
            self.assertEqual(result.get("text"), row.get("text"), row["prompt"])
            self.assertEqual(result["finish_reason"], "stop" if row["stopped"] else "length")
        return said


class EveryForm(FolderCase):
    """One test per form; they are added below."""


def test_of(name):
    def test(self):
        self.expect_reference(name, self.build(name))
    return test


for form in model_folders.FORMS:
    setattr(EveryForm, "test_" + form, test_of(form))


class Tokenizers(FolderCase):
    def test_ids_are_those_of_the_folder(self):
        self.assertEqual(set(TOKEN_IDS), set(tokenizer_folders.CASES))
        rows = [{"custom_id": str(i), "prompt": text, "max_tokens": 1} for i, text in enumerate(tokenizer_folders.TEXTS)]
        for name, expected in TOKEN_IDS.items():
            results, _ = self.run_program("generate", tokenizer_folders.build(name, self.place), rows)
            for text, ids, result in zip(tokenizer_folders.TEXTS, expected, results):
                with self.subTest(name, text=text):
                    self.assertEqual(result["prompt_token_ids"], ids)


class SeveralRanks(FolderCase):
    def test_same_tokens(self):
        for name in ("own_head", "several_ends", "sharded_safetensors"):
            with self.subTest(name):
                self.expect_reference(name, self.build(name), ranks=2)


class Head(FolderCase):
    def scores(self, model):
        rows = [{"custom_id": str(i), "prompt": row["prompt_ids"]} for i, row in enumerate(REFERENCE["own_head"]["rows"])]
        return [result["sum"] for result in self.run_program("score", model, rows)[0]]

    def test_a_head_that_differs_is_kept_and_named(self):
        model = self.build("own_head")
        self.assertIn("lm_head.weight differs", self.expect_reference("own_head", model))
        for row, score in zip(REFERENCE["own_head"]["rows"], self.scores(model)):
            self.assertAlmostEqual(score, row["score"], delta=2e-3)

    def test_an_equal_head_is_the_table(self):
        model = self.build("single_bin")
        state = model_folders.tensors(model_folders.FORMS["single_bin"].config, REFERENCE["single_bin"]["seed"])
        state["lm_head.weight"] = state["model.decoder.embed_tokens.weight"]
        model_folders.write_bin(model / "pytorch_model.bin", state, "F32")
        said = self.expect_reference("single_bin", model)
        self.assertNotIn("lm_head.weight", said)
        self.assertNotIn("nothing reads", said)

    def test_a_compressed_model_keeps_it(self):
        model, saved = self.build("own_head"), self.place / "saved"
        compress = ["--compress-weight", "--weight-bits", "8", "--save-compressed", saved]
        rows = self.rows_of("own_head")
        first, _ = self.run_program("generate", model, rows, *compress)
        again, _ = self.run_program("generate", saved, rows, "--compress-weight", "--weight-bits", "8")
        self.assertEqual([row["token_ids"] for row in first], [row["token_ids"] for row in again])
        self.assertIs(json.loads((saved / "config.json").read_text())["tie_word_embeddings"], False)
        for row, score in zip(REFERENCE["own_head"]["rows"], self.scores(saved)):
            self.assertAlmostEqual(score, row["score"], delta=0.05 * max(1, abs(row["score"])))


class WithoutTokenizer(FolderCase):
    def test_texts_are_errors_of_their_rows(self):
        model = self.build("no_tokenizer")
        rows = [{"custom_id": "text", "prompt": "the city"}, {"custom_id": "stop", "prompt": [5], "stop": ["x"]},
                {"custom_id": "ids", "prompt": [5], "max_tokens": 12}]
        (text, stop, ids), said = self.run_program("generate", model, rows, code=1)
        self.assertIn("no tokenizer files", text["error"]["message"])
        self.assertIn("stop", stop["error"]["message"])
        self.assertEqual(ids["token_ids"], REFERENCE["no_tokenizer"]["rows"][1]["ids"])
        self.assertNotIn("text", ids)
        self.assertIn("no tokenizer files", said)

    def test_token_ids_are_returned_always(self):
        model = self.build("no_tokenizer")
        command = [BINARY, "generate", "--model", model, "--input", "-", "--output", "-", "--device", "cpu"]
        done = subprocess.run([str(word) for word in command], input='{"prompt": [5], "max_tokens": 3}\n', check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.assertEqual(len(json.loads(done.stdout)["token_ids"]), 3)

    def test_scores_of_ids(self):
        rows = [{"custom_id": "ids", "prompt": [2, 17, 99, 200]}, {"custom_id": "text", "prompt": "the"}]
        (ids, text), _ = self.run_program("score", self.build("no_tokenizer"), rows, code=1)
        self.assertAlmostEqual(ids["sum"], REFERENCE["no_tokenizer"]["rows"][0]["score"], delta=2e-3)
        self.assertIn("no tokenizer files", text["error"]["message"])


class WhatIsNotHonoured(FolderCase):
    def says(self, model, *parts, code=0):
        _, said = self.run_program("generate", model, self.rows_of("saved_by_4")[:1], code=code)
        for part in parts:
            self.assertIn(part, said)
        return said

    def change(self, model, file, **members):
        path = model / file
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**values, **members}))

    def test_wishes_are_named_in_one_line(self):
        model = self.build("saved_by_4")
        self.assertNotIn("generation_config", self.says(model))
        self.change(model, "generation_config.json", repetition_penalty=1.2, num_beams=4, do_sample=False, temperature=0.3)
        said = self.says(model, "generation_config.json asks for num_beams 4 and repetition_penalty 1.2, which is not done")
        self.assertNotIn("temperature", said)

    def test_members_of_the_config_are_named(self):
        model = self.build("saved_by_4")
        self.change(model, "config.json", position_embedding_type="relative_key")
        self.says(model, 'position_embedding_type "relative_key"')

    def test_quantized_weights_are_refused(self):
        model = self.build("saved_by_4")
        self.change(model, "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
        self.says(model, "quantization_config", "--compress-weight", code=3)

    def test_tensors_that_nothing_reads_are_named(self):
        model = self.build("saved_by_4")
        state = model_folders.tensors(model_folders.FORMS["saved_by_4"].config, REFERENCE["saved_by_4"]["seed"])
        for layer in range(4):
            state[f"model.decoder.layers.{layer}.self_attn.q_proj.lora_A.weight"] = ((1,), [0.5])
        state["score.weight"] = ((2,), [0.5, 0.5])
        state["model.decoder.version"] = ((1,), [3.0])
        model_folders.write_safetensors(model / "model.safetensors", state, "F16")
        said = self.says(model, "nothing reads 5 of the checkpoint's tensors", "lora_A", "2 more")
        self.assertNotIn("version'", said)

    def test_adapters(self):
        model = self.build("saved_by_4")
        self.change(model, "adapter_config.json", base_model_name_or_path="org/base")
        self.says(model, "adapter_config.json", "not applied", "merge_and_unload")
        (model / "model.safetensors").unlink()
        self.says(model, "holds an adapter", "org/base", "merge_and_unload", code=3)


class Float64(FolderCase):
    def test_it_is_rounded_to_what_is_run(self):
        """Numbers that float32 does not have, against the same numbers rounded by this machine."""
        model = self.build("float64")
        state = model_folders.tensors(model_folders.FORMS["float64"].config, REFERENCE["float64"]["seed"])
        odd = {key: (shape, [value * (1 + 1e-3 / 3) for value in values]) for key, (shape, values) in state.items()}
        rounded = {key: (shape, [struct.unpack("f", struct.pack("f", value))[0] for value in values])
                   for key, (shape, values) in odd.items()}
        sums = []
        for dtype, values in (("F64", odd), ("F32", rounded)):
            model_folders.write_safetensors(model / "model.safetensors", values, dtype)
            results, _ = self.run_program("score", model, [{"custom_id": "a", "prompt": [2, 17, 99, 200, 4]}])
            sums.append(results[0]["token_logprobs"])
        self.assertEqual(*sums)


if __name__ == "__main__":
    BINARY = sys.argv.pop(1)
    unittest.main()
