#!/usr/bin/env python3
"""Makes the tiny random OPT models under tests/parity/data/models/, with what transformers computes with them.

Every variant of the architecture and of the checkpoint's form gets a folder:
    config.json, weights    as Hugging Face lays a model out
    reference.json          prompts, greedy ids, and the shape of the logits
    reference.bin           logits [prompts, steps, vocab], float32, little-endian

The reference runs in float32, one prompt at a time and without padding, on the weights as they are stored. Step 0 is
the prompt's last position; each further step reads the id chosen before. Weights have real variance, LayerNorms and
biases too, so that a wrong or missing one shows. A seed is passed over when two of its best logits lie so close that
rounding might swap them.

Needs torch, transformers and safetensors. Usage: python tests/parity/make_random_models.py
"""

import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import OPTConfig, OPTForCausalLM

ROOT = pathlib.Path(__file__).parent / "data" / "models"
STEPS = 7
PROMPT_LENGTHS = [1, 40, 7, 23, 2, 16, 33]
SMALLEST_GAP = 5e-3  # between best and second-best logit, relative to max(1, |best|)

SMALL = dict(hidden_size=36, num_attention_heads=3, ffn_dim=52, num_hidden_layers=3, vocab_size=131)

# name -> (changes to the config, how the checkpoint is written)
VARIANTS = {
    "odd_sizes": (dict(num_hidden_layers=4), {}),
    "one_head": (dict(hidden_size=20, num_attention_heads=1, ffn_dim=28, num_hidden_layers=5, vocab_size=97),
                 dict(dtype=torch.float32)),
    "post_norm_projections": (dict(do_layer_norm_before=False, word_embed_proj_dim=20), dict(form="bin")),
    "pre_norm_projections": (dict(word_embed_proj_dim=52, hidden_size=24), dict(dtype=torch.float32)),
    "untied_head": (dict(tie_word_embeddings=False), dict(dtype=torch.bfloat16)),
    "no_bias": (dict(enable_bias=False), dict(prefix="decoder.")),
    "plain_norms": (dict(layer_norm_elementwise_affine=False), {}),
    "no_final_norm": (dict(_remove_final_layer_norm=True), {}),
    "gelu": (dict(activation_function="gelu"), dict(form="sharded_safetensors")),
    "galactica_like": (dict(activation_function="gelu", enable_bias=False, layer_norm_elementwise_affine=False,
                            ffn_dim=144), dict(form="sharded_bin")),
    "old_norm_name": (dict(hidden_size=40, num_attention_heads=5), dict(form="bin", prefix="decoder.", old_norm=True)),
    "bfloat16_bin": (dict(num_hidden_layers=4), dict(form="sharded_bin", dtype=torch.bfloat16)),
    "head_without_table": (dict(vocab_size=200), dict(keep="lm_head.weight")),
}


def make_config(changes):
    sizes = {**SMALL, **changes}
    sizes.setdefault("word_embed_proj_dim", sizes["hidden_size"])
    # bos, pad and eos as OPT has them; no dropout, so that nothing but the weights is random.
    return OPTConfig(max_position_embeddings=64, dropout=0.0, attention_dropout=0.0, layerdrop=0.0, bos_token_id=2,
                     pad_token_id=1, eos_token_id=2, **sizes)


def make_model(config, dtype, seed):
    torch.manual_seed(seed)
    model = OPTForCausalLM(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "layer_norm" in name and name.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                tensor.normal_(0, 0.3)
            elif "embed" in name or "lm_head" in name:
                tensor.normal_(0, 0.5)
            else:
                tensor.normal_(0, 0.25)
            tensor.copy_(tensor.to(dtype).float())
    return model


def make_prompts(vocab):
    generator = torch.Generator().manual_seed(vocab)
    return [torch.randint(3, vocab, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]


def run_reference(model, prompts):
    """Logits [prompts, STEPS, vocab], greedy ids, and the smallest gap between a best and a second-best logit."""
    logits, ids, gap = [], [], float("inf")
    for prompt in prompts:
        row = list(prompt)
        for _ in range(STEPS):
            with torch.no_grad():
                last = model(torch.tensor([row])).logits[0, -1].float()
            logits.append(last)
            best = last.topk(2).values
            gap = min(gap, float((best[0] - best[1]) / max(1.0, abs(float(best[0])))))
            row.append(int(last.argmax()))
        ids.append(row[len(prompt):])
    return torch.stack(logits).reshape(len(prompts), STEPS, -1), ids, gap


def stored_tensors(model, config, dtype, prefix="model.decoder.", old_norm=False, keep=None):
    """The state as a checkpoint names it: a tied head once, under the name that the variant keeps."""
    tensors = {}
    for key, value in model.state_dict().items():
        if config.tie_word_embeddings and key == "lm_head.weight" and keep != key:
            continue
        if keep == "lm_head.weight" and key.endswith("embed_tokens.weight"):
            continue
        key = key.replace("model.decoder.", prefix)
        if old_norm and key.startswith(prefix + "final_layer_norm"):
            key = key.replace("final_layer_norm", "layer_norm")
        tensors[key] = value.to(dtype).contiguous().clone()
    return tensors


def write_weights(path, tensors, form):
    kind = "bin" if form.endswith("bin") else "safetensors"
    stem = "pytorch_model" if kind == "bin" else "model"
    save = torch.save if kind == "bin" else (lambda part, file: save_file(part, file, metadata={"format": "pt"}))
    if not form.startswith("sharded"):
        save(tensors, path / f"{stem}.{kind}")
        return
    keys = sorted(tensors)
    # Alternating keys: the parts of one layer, and of one fused matrix, come from different files.
    shards = [{key: tensors[key] for key in keys[first::3]} for first in range(3)]
    names = [f"{stem}-{n + 1:05d}-of-00003.{kind}" for n in range(3)]
    for name, shard in zip(names, shards):
        save(shard, path / name)
    weight_map = {key: name for name, shard in zip(names, shards) for key in shard}
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (path / f"{stem}.{kind}.index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_config(path, config, dtype):
    keys = ["activation_function", "bos_token_id", "do_layer_norm_before", "enable_bias", "eos_token_id", "ffn_dim",
            "hidden_size", "layer_norm_elementwise_affine", "max_position_embeddings", "num_attention_heads",
            "num_hidden_layers", "pad_token_id", "tie_word_embeddings", "vocab_size", "word_embed_proj_dim"]
    values = {"architectures": ["OPTForCausalLM"], "model_type": "opt"}
    values["_remove_final_layer_norm"] = config._remove_final_layer_norm
    values.update({key: getattr(config, key) for key in keys})
    values["torch_dtype"] = str(dtype).removeprefix("torch.")
    (path / "config.json").write_text(json.dumps(values, indent=1) + "\n")


def write_reference(path, prompts, ids, logits):
    assert logits.dtype == torch.float32
    (path / "reference.bin").write_bytes(logits.contiguous().numpy().astype("<f4").tobytes())
    reference = {"shape": list(logits.shape), "prompts": prompts, "greedy_ids": ids}
    lines = ",\n".join(f' "{key}": {json.dumps(value)}' for key, value in reference.items())
    (path / "reference.json").write_text("{\n" + lines + "\n}\n")


def make_variant(name, changes, options):
    options = dict(options)
    form, dtype = options.pop("form", "safetensors"), options.pop("dtype", torch.float16)
    config = make_config(changes)
    prompts = make_prompts(config.vocab_size)
    for seed in range(1000):
        model = make_model(config, dtype, seed)
        logits, ids, gap = run_reference(model, prompts)
        varied = min(len(set(row)) for row in ids) > 1
        if gap >= SMALLEST_GAP and varied:
            break
    else:
        raise RuntimeError(f"{name}: no seed gives clear greedy choices")
    path = ROOT / name
    path.mkdir(parents=True)
    write_config(path, config, dtype)
    write_weights(path, stored_tensors(model, config, dtype, **options), form)
    write_reference(path, prompts, ids, logits)
    print(f"{name:24} seed {seed:3}  gap {gap:.4f}  largest logit {float(logits.abs().max()):7.2f}")


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    for name, (changes, options) in VARIANTS.items():
        make_variant(name, changes, options)
    for path in ROOT.rglob("*"):
        if path.is_file():
            path.chmod(0o644)


if __name__ == "__main__":
    main()
