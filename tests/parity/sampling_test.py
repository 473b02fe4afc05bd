#!/usr/bin/env python3
"""Sampling, log-probabilities and choices through the whole program, on the demo model.

usage: sampling_test.py BINARY [TEST ...]

Standard library only.
"""
import collections
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
BINARY = ""
ALONE = "1 16 2 100 0 100 0 100 0"


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def run(rows, case=ALONE, command="generate"):
    """Results by id. A case is "RANKS B K wg wc cg cc hg hc [FLAG ...]"."""
    ranks, b, k, *rest = case.split()
    with tempfile.TemporaryDirectory(prefix="flexgen-sampling-") as name:
        folder = pathlib.Path(name)
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        start = [str(PROJECT / "launch" / "mpirun.sh"), "-n", ranks] if int(ranks) > 1 else []
        done = subprocess.run(
            start + [BINARY, command, "--model", str(PROJECT / "configs" / "demo-model"), "--input",
                     str(folder / "rows.jsonl"), "--output", str(folder / "out.jsonl"), "--return-token-ids",
                     "--device", "cpu", "--dtype", "float32", "--gpu-batch-size", b, "--num-gpu-batches", k,
                     "--percent", *rest[:6], *rest[6:], "--offload-dir", str(folder / "offload"), "--log-level",
                     "warn"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        results = read_rows(folder / "out.jsonl") if done.returncode in (0, 1) else []
    if len(results) != len(rows):
        raise RuntimeError(f"exit code {done.returncode}, {len(results)} results\n{done.stdout[-4000:]}")
    if (done.returncode == 1) != any("error" in result and result["error"] for result in results):
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-4000:]}")
    return {result["custom_id"]: result for result in results}


def mixed_rows():
    """Rows of every kind, some of which ask for nothing."""
    asks = [{"temperature": 1}, {}, {"temperature": 0.7, "top_p": 0.8, "logprobs": 3},
            {"temperature": 1.5, "top_k": 30, "min_p": 0.02, "n": 2},
            {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "min_tokens": 6},
            {"temperature": 1, "presence_penalty": 0.6, "best_of": 3, "logit_bias": {"202": -100, "300": 2}},
            {"echo": True, "logprobs": 2, "temperature": 0.9}, {"prompt_logprobs": 1}, {"choices": [" yes", " no"]},
            {"max_tokens": 0, "echo": True, "logprobs": 0}, {"ignore_eos": True, "temperature": 2, "seed": 5}]
    rows = []
    for i, row in enumerate(read_rows(HERE / "data" / "greedy.jsonl")[:44]):
        rows.append({"custom_id": f"row-{i}", "prompt": row["prompt_ids"], "max_tokens": 4 + i % 7, **asks[i % 11]})
    return rows


class Sampling(unittest.TestCase):
    maxDiff = 2000

    def test_same_seeds_give_the_same_results_whatever_the_policy(self):
        rows = mixed_rows()
        expected = run(rows, "1 1 1 100 0 100 0 100 0")
        self.assertGreater(len({str(result.get("token_ids")) for result in expected.values()}), 20)
        for case in ("1 7 3 20 80 0 100 0 100", "2 4 2 0 50 0 50 0 50 --token-budget 9", "1 64 1 0 0 0 0 0 0",
                     "2 16 1 100 0 0 100 100 0 --cpu-cache-compute"):
            results = run(rows, case)
            for name, result in expected.items():
                self.assertEqual(results[name], result, f"{case}: {name}")

    def test_rows_that_ask_for_nothing_are_greedy_beside_those_that_draw(self):
        references = read_rows(HERE / "data" / "greedy.jsonl")[:30]
        rows = [{"custom_id": str(i), "prompt": row["prompt_ids"], "max_tokens": len(row["greedy_ids"]),
                 **({"temperature": 1} if i % 3 == 0 else {})} for i, row in enumerate(references)]
        results = run(rows)
        for i, row in enumerate(references):
            if i % 3:
                self.assertEqual(results[str(i)]["token_ids"], row["greedy_ids"], f"row {i}")

    def test_tokens_are_drawn_as_their_probabilities_say(self):
        prompt, draws = "What is the city?", 3000
        temperature = 1
        rows = [{"custom_id": str(i), "prompt": prompt, "max_tokens": 1, "temperature": temperature, "seed": i}
                for i in range(draws)]
        rows.append({"custom_id": "law", "prompt": prompt, "max_tokens": 1, "logprobs": 20})
        results = run(rows, "1 64 4 100 0 100 0 100 0")
        law = {token: math.exp(value) for token, value in results["law"]["logprobs"]["top_logprobs"][0].items()}
        seen = collections.Counter(results[str(i)]["text"] for i in range(draws))
        chi_square, rest, rest_seen, degrees = 0, 1.0, draws, 0
        for token, chance in law.items():
            if chance * draws >= 5:
                chi_square += (seen[token] - chance * draws) ** 2 / (chance * draws)
                rest, rest_seen, degrees = rest - chance, rest_seen - seen[token], degrees + 1
        chi_square += (rest_seen - rest * draws) ** 2 / (rest * draws)
        self.assertGreaterEqual(degrees, 8)
        self.assertLess(chi_square, degrees + 5 * math.sqrt(2 * degrees), f"{seen.most_common(12)}\n{law}")

    def test_echoed_log_probabilities_are_those_of_transformers_and_of_score(self):
        references = read_rows(HERE / "data" / "scores.jsonl")
        for max_tokens, case in ((0, "1 7 3 0 50 0 50 0 50"), (3, "2 5 2 20 80 0 100 0 100 --token-budget 8")):
            rows = [{"custom_id": row["id"], "prompt": row["ids"], "max_tokens": max_tokens, "ignore_eos": True,
                     "echo": True, "logprobs": i % 4} for i, row in enumerate(references)]
            results = run(rows, case)
            scores = run([{"custom_id": row["id"], "prompt": row["ids"]} for row in references], command="score")
            for i, row in enumerate(references):
                logprobs = results[row["id"]]["logprobs"]
                lengths = {len(logprobs[name]) for name in logprobs}
                self.assertEqual(lengths, {len(row["ids"]) + max_tokens})
                self.assertIsNone(logprobs["token_logprobs"][0])
                for got, wanted in zip(logprobs["token_logprobs"][1:], row["token_logprobs"][1:]):
                    self.assertLess(abs(got - wanted), 1e-4)
                count = len(row["ids"])
                self.assertEqual(logprobs["token_logprobs"][:count], scores[row["id"]]["token_logprobs"])
                for token, value, top in list(zip(*(logprobs[name] for name in (
                        "tokens", "token_logprobs", "top_logprobs"))))[1:]:
                    self.assertEqual(top[token], value, "the same number in both places")
                    self.assertIn(len(top), (i % 4, i % 4 + 1))
                    self.assertGreaterEqual(max(top.values()), value)

    def test_a_choice_is_the_continuation_that_score_finds_likeliest(self):
        prompt, choices = "What is the city?", [" san francisco", " new york", " maybe"]
        row = {"custom_id": "plain", "prompt": prompt, "choices": choices, "logprobs": 1}
        body = {key: value for key, value in row.items() if key != "custom_id"}
        batch = {"custom_id": "batch", "method": "POST", "url": "/v1/completions", "body": body}
        results = run([row, batch])
        scores = run([{"custom_id": text, "prompt": prompt + text} for text in choices] +
                     [{"custom_id": "alone", "prompt": prompt}], command="score")
        sums = [scores[text]["sum"] - scores["alone"]["sum"] for text in choices]
        plain = results["plain"]
        for got, wanted in zip(plain["choice_logprobs"], sums):
            self.assertAlmostEqual(got, wanted, delta=1e-4)
        self.assertEqual(plain["text"], choices[sums.index(max(sums))])
        self.assertAlmostEqual(sum(plain["logprobs"]["token_logprobs"]), max(sums), delta=1e-4)
        choice = results["batch"]["response"]["body"]["choices"][0]
        self.assertEqual(choice["text"], plain["text"])
        self.assertEqual(choice["choice_logprobs"], plain["choice_logprobs"])
        self.assertEqual(choice["logprobs"], plain["logprobs"])

    def test_the_best_of_several_are_the_likeliest(self):
        ask = {"prompt": "What is the city?", "temperature": 1.2, "max_tokens": 6, "seed": 4, "logprobs": 0}
        results = run([{"custom_id": "all", "n": 8, **ask}, {"custom_id": "best", "n": 3, "best_of": 8, **ask}])
        everyone = results["all"]["choices"]
        self.assertGreater(len({choice["text"] for choice in everyone}), 3, "each draws for itself")

        def mean(choice):
            values = choice["logprobs"]["token_logprobs"]
            return sum(values) / len(values)
        wanted = [choice["text"] for choice in sorted(everyone, key=mean, reverse=True)[:3]]
        self.assertEqual([choice["text"] for choice in results["best"]["choices"]], wanted)

    def test_what_ends_a_row(self):
        prompt = read_rows(HERE / "data" / "greedy.jsonl")[0]["prompt_ids"]
        free = run([{"custom_id": "a", "prompt": prompt, "max_tokens": 40, "ignore_eos": True}])["a"]["token_ids"]
        self.assertEqual(len(free), 40)
        stop = free[3]
        rows = [{"custom_id": "stop", "prompt": prompt, "max_tokens": 40, "stop_token_ids": [stop]},
                {"custom_id": "later", "prompt": prompt, "max_tokens": 40, "stop_token_ids": [stop], "min_tokens": 9},
                {"custom_id": "banned", "prompt": prompt, "max_tokens": 40, "logit_bias": {str(free[0]): -100}}]
        results = run(rows)
        first = free.index(stop)
        self.assertEqual(results["stop"]["token_ids"], free[:first + 1])
        self.assertEqual(results["stop"]["finish_reason"], "stop")
        self.assertNotIn(stop, results["later"]["token_ids"][:9])
        self.assertGreater(len(results["later"]["token_ids"]), 9)
        self.assertNotIn(free[0], results["banned"]["token_ids"])

    def test_a_bad_field_costs_its_row_alone(self):
        bad = [{"temperature": 3}, {"logit_bias": {"4096": 1}}, {"stop_token_ids": [5000]}, {"n": 2, "best_of": 1},
               {"max_tokens": 0}, {"choices": ["a", "a"]}, {"logprobs": 21}]
        rows = [{"custom_id": f"bad-{i}", "prompt": "x", **one} for i, one in enumerate(bad)]
        rows += [{"custom_id": "good", "prompt": "x", "max_tokens": 2}]
        rows += [{"custom_id": "own", "prompt": "x", "max_tokens": 2, "choices": {"text": ["a"], "label": ["A"]}}]
        results = run(rows)
        for name, result in results.items():
            self.assertEqual("error" in result, name.startswith("bad-"), result)
        self.assertEqual(results["own"]["token_ids"], results["good"]["token_ids"])


if __name__ == "__main__":
    BINARY = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
