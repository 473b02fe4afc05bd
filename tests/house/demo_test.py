#!/usr/bin/env python3
"""The demo job's files: rows can be made again byte for byte, every row has an answer, scoring counts what it should."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "launch"))
import score_demo  # noqa: E402


def result(custom_id, text):
    return {"custom_id": custom_id, "text": text, "finish_reason": "stop"}


class DemoRowsTest(unittest.TestCase):
    def test_rows_are_made_again_byte_for_byte(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-B", str(ROOT / "launch" / "make_demo_rows.py"), "--output-dir", folder],
                           check=True, stdout=subprocess.DEVNULL)
            for name in ("rows.jsonl", "answers.jsonl"):
                self.assertEqual((pathlib.Path(folder) / name).read_bytes(),
                                 (ROOT / "configs" / "demo-rows" / name).read_bytes(), name)

    def test_every_row_has_one_answer(self):
        rows = score_demo.read_rows(ROOT / "configs" / "demo-rows" / "rows.jsonl")
        answers = score_demo.read_rows(ROOT / "configs" / "demo-rows" / "answers.jsonl")
        self.assertGreaterEqual(len(rows), 1000)
        self.assertEqual([row["custom_id"] for row in rows], [answer["custom_id"] for answer in answers])
        self.assertEqual(len({row["custom_id"] for row in rows}), len(rows))
        self.assertEqual(len({row["prompt"] for row in rows}), len(rows))


class ScoreTest(unittest.TestCase):
    ANSWERS = [{"custom_id": "a-1", "task": "a", "answer": "Yes"}, {"custom_id": "a-2", "task": "a", "answer": "No"}]

    def test_right_and_wrong(self):
        tasks, broken = score_demo.score([result("a-2", " Yes"), result("a-1", " Yes")], self.ANSWERS)
        self.assertEqual((tasks, broken), ({"a": [1, 2]}, []))

    def test_missing_doubled_and_failed_rows_are_broken(self):
        failed = {"custom_id": "a-2", "error": {"code": "x", "message": "y"}}
        for results in ([result("a-1", " Yes")],
                        [result("a-1", " Yes"), result("a-2", " No"), result("a-2", " No")],
                        [result("a-1", " Yes"), failed]):
            tasks, broken = score_demo.score(results, self.ANSWERS)
            self.assertEqual((tasks, broken), ({"a": [1, 2]}, ["a-2"]))


class ModelShapesTest(unittest.TestCase):
    def test_parameters_match_the_names(self):
        """Counts the weights of each configs/models shape; the name says the same number, rounded."""
        for folder in sorted((ROOT / "configs" / "models").iterdir()):
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            hidden, ffn = config["hidden_size"], config["ffn_dim"]
            layer = 4 * (hidden * hidden + hidden) + 2 * hidden * ffn + hidden + ffn + 4 * hidden
            total = config["num_hidden_layers"] * layer + config["vocab_size"] * config["word_embed_proj_dim"]
            total += (config["max_position_embeddings"] + 2) * hidden
            name = folder.name.removeprefix("opt-")
            named = float(name[:-1]) * {"m": 1e6, "b": 1e9}[name[-1]]
            self.assertLess(abs(total - named) / named, 0.08, f"{folder.name}: {total}")
            self.assertEqual(hidden % config["num_attention_heads"], 0)


if __name__ == "__main__":
    unittest.main()
