#!/usr/bin/env python3
"""A random float16 checkpoint of OPT in the form and size of a real one: what `bench --dummy` cannot show is read from it.

usage: make_checkpoint.py SHAPE_DIR OUT [--layers N] [--bin SHARDS] [--tokenizer DIR] [--seed N]

SHAPE_DIR holds a config.json (configs/models/opt-6.7b). One safetensors file, or with --bin so many PyTorch shards and
their index. Needs torch; the numbers are drawn on a GPU where there is one (13 GB in twenty seconds).
"""
import argparse
import ctypes
import json
import os
import shutil
import struct

import torch


def tensors(config, seed):
    """Names and float16 values of the model's tensors, in the order in which they are drawn."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    h, f = config["hidden_size"], config["ffn_dim"]

    def draw(*shape):
        return (torch.randn(*shape, generator=generator, device=device) * 0.02).half().cpu()

    def norm(name):
        yield name + ".weight", 1 + draw(h)
        yield name + ".bias", draw(h)

    def linear(name, rows, cols):
        yield name + ".weight", draw(rows, cols)
        yield name + ".bias", draw(rows)

    yield "model.decoder.embed_tokens.weight", draw(config["vocab_size"], h)
    yield "model.decoder.embed_positions.weight", draw(config["max_position_embeddings"] + 2, h)
    yield from norm("model.decoder.final_layer_norm")
    for i in range(config["num_hidden_layers"]):
        layer = f"model.decoder.layers.{i}."
        for name in ("q", "k", "v"):
            yield from linear(layer + f"self_attn.{name}_proj", h, h)
        yield from linear(layer + "self_attn.out_proj", h, h)
        yield from linear(layer + "fc1", f, h)
        yield from linear(layer + "fc2", h, f)
        yield from norm(layer + "self_attn_layer_norm")
        yield from norm(layer + "final_layer_norm")


def write_shards(weights, out, count):
    names, places = list(weights), {}
    for i in range(count):
        file = f"pytorch_model-{i + 1:05d}-of-{count:05d}.bin"
        part = {name: weights[name] for name in names[i::count]}
        torch.save(part, f"{out}/{file}")
        places |= dict.fromkeys(part, file)
    with open(f"{out}/pytorch_model.bin.index.json", "w") as index:
        json.dump({"metadata": {}, "weight_map": places}, index)


def write_safetensors(weights, out):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(weights):
        size = weights[name].numel() * 2
        header[name] = {"dtype": "F16", "shape": list(weights[name].shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{out}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(weights):
            values = weights[name].contiguous()
            file.write((ctypes.c_char * (values.numel() * 2)).from_address(values.data_ptr()))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("shape")
    parser.add_argument("out")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--bin", type=int)
    parser.add_argument("--tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    with open(words.shape + "/config.json") as file:
        config = json.load(file)
    if words.layers:
        config["num_hidden_layers"] = words.layers
    os.makedirs(words.out, exist_ok=True)
    with open(words.out + "/config.json", "w") as file:
        json.dump(config, file)
    weights = dict(tensors(config, words.seed))
    if words.bin:
        write_shards(weights, words.out, words.bin)
    else:
        write_safetensors(weights, words.out)
    if words.tokenizer:
        for name in ("vocab.json", "merges.txt"):
            shutil.copyfile(f"{words.tokenizer}/{name}", f"{words.out}/{name}")


if __name__ == "__main__":
    main()
