#!/usr/bin/env python3
"""Writes tests/parity/data/folders.json: what transformers makes of the folders of model_folders.py, and tokenizers.json:
the ids that it gives to the texts of tokenizer_folders.py, {case: [ids of each text]}.

    {form: {"seed", "ends", "rows": [{"prompt", "prompt_ids", "ids", "text", "score"}]}}

Greedy, float32, one prompt at a time, up to 12 tokens; `text` leaves out the token that ends a row; `score` is the
log-probability of the prompt's ids but the first. A seed is passed over when two of its best logits lie so close that
rounding might swap them. Needs torch and transformers (the data was made with 5.17).
"""
import json
import pathlib
import tempfile

import torch
from transformers import AutoTokenizer, OPTForCausalLM

import model_folders
import tokenizer_folders

OUT = pathlib.Path(__file__).parent / "data" / "folders.json"
STEPS = 12
SMALLEST_GAP = 2e-3  # between best and second-best logit, relative to max(1, |best|)


def load(name, place, seed, ends):
    # Names that wrappers have changed are not read by transformers: the same weights without them.
    path = model_folders.build(name, place, seed, ends, wraps=False)
    if name == "hub_cache":
        path = path / "snapshots" / "0123abc"
    model = OPTForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(path) if model_folders.FORMS[name].tokenizer else None


def smallest_gap(model, ids, length):
    logits = model(torch.tensor([ids])).logits[0, length - 1:-1].float()
    best = logits.topk(2).values
    return float(((best[:, 0] - best[:, 1]) / best[:, 0].abs().clamp(min=1)).min())


def run_row(model, tokenizer, prompt):
    ids = tokenizer(prompt).input_ids if isinstance(prompt, str) else prompt
    if not ids:
        return None, 1
    tensor = torch.tensor([ids])
    row = model.generate(tensor, attention_mask=torch.ones_like(tensor), max_new_tokens=STEPS, do_sample=False)[0].tolist()
    gap = smallest_gap(model, row, len(ids))
    new = row[len(ids):]
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    result = {"prompt": prompt, "prompt_ids": ids, "ids": new, "stopped": new[-1] in ends}
    if tokenizer:
        result["text"] = tokenizer.decode(new[:-1] if result["stopped"] else new, skip_special_tokens=True)
    scores = model(tensor).logits[0].log_softmax(-1)
    result["score"] = round(sum(float(scores[i, ids[i + 1]]) for i in range(len(ids) - 1)), 4)
    return result, gap


def run_form(name, seed, ends):
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        model, tokenizer = load(name, pathlib.Path(place), seed, ends)
        results = [run_row(model, tokenizer, prompt) for prompt in model_folders.prompts(name)]
    return [row for row, _ in results if row], min(gap for _, gap in results)


def make_form(name):
    for seed in range(200):
        ends = None
        if name in ("several_ends", "no_end"):  # tokens that do come, in the middle of rows
            rows, _ = run_form(name, seed, [319, 318])
            ends = sorted({rows[0]["ids"][4], rows[1]["ids"][2]})
        rows, gap = run_form(name, seed, ends)
        varied = max(len(set(row["ids"])) for row in rows) > 2
        stops = any(row["stopped"] for row in rows)
        if gap >= SMALLEST_GAP and varied and (stops or name != "several_ends"):
            print(f"{name:20} seed {seed:3}  gap {gap:.4f}  {sum(row['stopped'] for row in rows)} stop", flush=True)
            return {"seed": seed, "ends": ends, "rows": rows}
    raise RuntimeError(f"{name}: no seed gives clear greedy choices")


def token_ids(name):
    with tempfile.TemporaryDirectory() as place:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folders.build(name, pathlib.Path(place)))
        return [tokenizer(text).input_ids for text in tokenizer_folders.TEXTS]


if __name__ == "__main__":
    ids = [f'"{name}": {json.dumps(token_ids(name))}' for name in tokenizer_folders.CASES]
    OUT.with_name("tokenizers.json").write_text("{\n" + ",\n".join(ids) + "\n}\n")
    lines = [f'"{name}": {json.dumps(make_form(name))}' for name in model_folders.FORMS]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
