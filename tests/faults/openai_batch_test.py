#!/usr/bin/env python3
"""OpenAI Batch files through a whole job: every field of a request, and both forms of a line that comes out.

usage: openai_batch_test.py FLEXGEN-DIST [unittest options]

The lines are checked against what OpenAI documents of them, and, where Python has the package openai, against its types.
"""
import json
import unittest

from fault_case import FaultCase, main

try:
    from openai.types import Completion
except ImportError:
    Completion = None

ROWS_FAILED = 1
PROMPT = "name: golden palace. phone: 310-456. city?"


def completion(**fields):
    return {"model": "demo-model", "prompt": PROMPT, "max_tokens": 4, **fields}


GOOD = {
    "plain": completion(),
    "ids": completion(prompt=[2, 100, 101, 102]),
    "texts": completion(prompt=[PROMPT, "another"]),
    "id-lists": completion(prompt=[[2, 100], [2, 101, 102]]),
    "newer-name": {"prompt": PROMPT, "max_completion_tokens": 3},
    "no-length": {"prompt": PROMPT},
    "nulls": completion(stop=None, logprobs=None, suffix=None, seed=None, n=None, echo=None, logit_bias=None, user=None,
                        best_of=None, temperature=None, top_p=None, stream=None, stream_options=None),
    "defaults": completion(temperature=1, top_p=1, n=1, best_of=1, echo=False, stream=False, suffix="", presence_penalty=0,
                           frequency_penalty=0, logit_bias={}, stop=[]),
    "seeded": completion(temperature=1.5, seed=7),
    "seeded-again": completion(temperature=1.5, seed=7),
    "three": completion(temperature=1.5, seed=7, n=3),
    "three-each": completion(prompt=[PROMPT, "another"], n=3, temperature=1),
    "best": completion(temperature=1, n=1, best_of=3),
    "logprobs": completion(logprobs=3),
    "logprobs-0": completion(logprobs=0),
    "chosen-only": completion(logprobs=2, temperature=1.8, top_p=0.9),
    "echo": completion(echo=True),
    "echo-logprobs": completion(echo=True, logprobs=2),
    "echo-ids": completion(prompt=[100, 101, 102], echo=True, logprobs=1),
    "prompt-only": completion(echo=True, logprobs=1, max_tokens=0),
    "penalties": completion(presence_penalty=2, frequency_penalty=2, max_tokens=12),
    "labels": completion(user="u", metadata={"job": "x"}),
}
BAD = {  # body, url -> code
    "chat": ({"model": "demo-model", "messages": [{"role": "user", "content": "x"}]}, "/v1/chat/completions", "unsupported_url"),
    "embeddings": ({"input": "x"}, "/v1/embeddings", "unsupported_url"),
    "no-prompt": ({"max_tokens": 3}, "/v1/completions", "missing_field"),
    "messages": (completion(messages=[]), "/v1/completions", "unsupported_field"),
    "hot": (completion(temperature=3), "/v1/completions", "invalid_field"),
    "slip": (completion(stopp="x"), "/v1/completions", "unknown_field"),
    "stream": (completion(stream=True), "/v1/completions", "unsupported_value"),
    "long": (completion(prompt=[5] * 5000), "/v1/completions", "invalid_prompt"),
    "too-many": (completion(n=129), "/v1/completions", "invalid_field"),
    "differing": (completion(max_completion_tokens=5), "/v1/completions", "invalid_field"),
}


def line(name, body, url="/v1/completions"):
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body}) + "\n"


class OpenAiBatchTest(FaultCase):
    """One job; every test looks at what it made."""

    def setUp(self):
        super().setUp()
        self.rows_file = self.folder / "batch.jsonl"
        self.errors = self.folder / "errors.jsonl"

    def run_batch(self, lines, code, *more):
        self.rows_file.write_text("".join(lines), encoding="utf-8")
        self.expect(code, self.words(self.rows_file, "--error-file", self.errors, "--gen-len", "6", *more))
        return self.results(), self.results(self.errors)

    def test_lines_that_come_out(self):
        lines = [line(name, body) for name, body in GOOD.items()]
        lines += [line(name, body, url) for name, (body, url, _) in BAD.items()]
        lines += ['{"custom_id": "torn", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"\n',
                  line("get", completion()).replace("POST", "GET"), '{"custom_id": "bare", "method": "POST", "url": "/v1/completions"}\n']
        good, bad = self.run_batch(lines, ROWS_FAILED)
        codes = dict({name: code for name, (_, _, code) in BAD.items()}, torn="invalid_json", get="unsupported_value", bare="missing_field")
        self.assertEqual(set(good), set(GOOD))
        self.assertEqual({name: row["error"]["code"] for name, row in bad.items()}, codes)
        for row in bad.values():
            self.check_error(row)
        for row in good.values():
            self.check_completion(row)
            self.check_against_the_package(row)
        self.assertEqual(len({row["id"] for row in [*good.values(), *bad.values()]}), len(lines))
        self.check_meaning({name: row["response"]["body"] for name, row in good.items()})

    def test_stop_bias_and_where_errors_stand(self):
        """What the first job has answered says what a second one must do."""
        good, _ = self.run_batch([line("plain", completion(max_tokens=8))], 0)
        choice = good["plain"]["response"]["body"]["choices"][0]
        stop = choice["text"].strip()[-2:]
        bodies = {"stop": completion(max_tokens=8, stop=stop), "stops": completion(max_tokens=8, stop=["never seen", stop]),
                  "biased": completion(prompt=[2, 100, 101], max_tokens=3, logit_bias={"50": 100}, ignore_eos=True)}
        lines = [line(name, body) for name, body in bodies.items()] + [line("bad", {})]
        self.rows_file.write_text("".join(lines), encoding="utf-8")
        self.expect(ROWS_FAILED, self.words(self.rows_file, "--overwrite", "--return-token-ids"))
        found = self.results()
        self.check_error(found.pop("bad"))
        for name in ("stop", "stops"):
            stopped = found[name]["response"]["body"]["choices"][0]
            self.assertEqual((stopped["finish_reason"], stopped["text"]), ("stop", choice["text"][:choice["text"].index(stop)]))
        self.assertEqual(found["biased"]["response"]["body"]["choices"][0]["token_ids"], [50] * 3)

    def check_error(self, row):
        self.assertEqual(list(row), ["id", "custom_id", "response", "error"])
        self.assertIsNone(row["response"])
        self.assertEqual(list(row["error"]), ["code", "message"])
        self.assertTrue(row["id"].startswith("batch_req_") and row["error"]["message"], row)

    def check_completion(self, row):
        self.assertEqual(list(row), ["id", "custom_id", "response", "error"])
        self.assertIsNone(row["error"])
        self.assertEqual(set(row["response"]), {"status_code", "request_id", "body"})
        self.assertEqual(row["response"]["status_code"], 200)
        body = row["response"]["body"]
        self.assertEqual(set(body), {"id", "object", "created", "model", "choices", "usage"})
        self.assertEqual((body["object"], body["model"], type(body["created"])), ("text_completion", "demo-model", int))
        self.assertTrue(row["id"].startswith("batch_req_") and row["response"]["request_id"] and body["id"].startswith("cmpl-"))
        usage = body["usage"]
        self.assertEqual(set(usage), {"prompt_tokens", "completion_tokens", "total_tokens"})
        self.assertEqual(usage["prompt_tokens"] + usage["completion_tokens"], usage["total_tokens"])
        for index, choice in enumerate(body["choices"]):
            self.assertEqual(set(choice), {"index", "text", "logprobs", "finish_reason"})
            self.assertEqual((choice["index"], type(choice["text"])), (index, str))
            self.assertIn(choice["finish_reason"], ("stop", "length"))
            self.check_logprobs(choice, GOOD[row["custom_id"]])

    def check_logprobs(self, choice, request):
        if request.get("logprobs") is None:
            self.assertIsNone(choice["logprobs"])
            return
        found = choice["logprobs"]
        self.assertEqual(set(found), {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
        self.assertEqual({len(values) for values in found.values()}, {len(found["tokens"])})
        for token, value, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"]):
            if value is None:
                self.assertTrue(request["echo"])
                continue
            self.assertLessEqual(value, 0)
            self.assertEqual(top[token], value)
            self.assertIn(len(top), (request["logprobs"], request["logprobs"] + 1))

    def check_against_the_package(self, row):
        if Completion is None:
            return
        body = row["response"]["body"]
        if row["custom_id"] == "echo-ids":  # a first token without any before it has null, in OpenAI's answers too; its types do not know
            return
        made = Completion.model_validate(body, strict=True)
        self.assertEqual(made.choices[0].text, body["choices"][0]["text"])
        self.assertEqual(made.model_extra or {}, {})
        self.assertFalse(any(choice.model_extra for choice in made.choices))

    def check_meaning(self, bodies):
        texts = {name: [choice["text"] for choice in body["choices"]] for name, body in bodies.items()}
        lengths = {name: body["usage"]["completion_tokens"] for name, body in bodies.items()}
        counts = {name: len(found) for name, found in texts.items()}
        self.assertEqual({name: count for name, count in counts.items() if count != 1},
                         {"texts": 2, "id-lists": 2, "three": 3, "three-each": 6})
        for name in ("nulls", "logprobs", "logprobs-0", "labels"):
            self.assertEqual(texts[name], texts["plain"], name)
        self.assertEqual(texts["texts"][0], texts["plain"][0])
        self.assertEqual(texts["seeded"], texts["seeded-again"])
        self.assertEqual(texts["three"][0], texts["seeded"][0])
        self.assertGreater(len(set(texts["three"])), 1)
        self.assertLessEqual(lengths["newer-name"], 3)
        self.assertLessEqual(lengths["no-length"], 6, "--gen-len")
        self.assertEqual(texts["echo"][0], PROMPT + texts["plain"][0])
        self.assertEqual(texts["prompt-only"], [PROMPT])
        self.assertEqual(lengths["prompt-only"], 0)
        echoed = bodies["echo-logprobs"]["choices"][0]
        self.assertEqual("".join(echoed["logprobs"]["tokens"])[:len(PROMPT)], PROMPT)
        self.assertIsNotNone(echoed["logprobs"]["token_logprobs"][0], "behind what the tokenizer puts in front of a text")
        self.assertIsNone(bodies["echo-ids"]["choices"][0]["logprobs"]["token_logprobs"][0])
        self.assertEqual(bodies["ids"]["usage"]["prompt_tokens"], 4)
        self.assertEqual(bodies["id-lists"]["usage"]["prompt_tokens"], 5)


@unittest.skipIf(Completion is None, "Python has no package openai: its types check nothing here; pip install openai")
class PackageTest(unittest.TestCase):
    def test_its_types_tell_wrong_from_right(self):
        right = {"id": "x", "object": "text_completion", "created": 1, "model": "m",
                 "choices": [{"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}]}
        Completion.model_validate(right, strict=True)
        for name, value in (("object", "chat.completion"), ("created", "1"), ("choices", None)):
            with self.assertRaises(ValueError):
                Completion.model_validate({**right, name: value}, strict=True)


if __name__ == "__main__":
    main()
