"""Small OPT folders in the forms in which models are found, made of numbers alone: the same bytes on every machine.

Each form is a function of a folder and a seed. Standard library only. model_folders_test.py runs them through the
program, make_model_folders.py through transformers.
"""
import io
import json
import pickle
import struct
import zipfile

BASE = {"_remove_final_layer_norm": False, "activation_function": "relu", "architectures": ["OPTForCausalLM"],
        "bos_token_id": 2, "do_layer_norm_before": True, "dropout": 0.1, "enable_bias": True, "eos_token_id": 2,
        "ffn_dim": 40, "hidden_size": 24, "layer_norm_elementwise_affine": True, "max_position_embeddings": 64,
        "model_type": "opt", "num_attention_heads": 3, "num_hidden_layers": 2, "pad_token_id": 1,
        "tie_word_embeddings": True, "use_cache": True, "vocab_size": 320, "word_embed_proj_dim": 24}
CODES = {"F16": ("e", "HalfStorage"), "F32": ("f", "FloatStorage"), "F64": ("d", "DoubleStorage")}
NAMES = {"F16": "float16", "F32": "float32", "F64": "float64"}


# ---- weights --------------------------------------------------------------------------------------------------

class Numbers:
    """A stream of float16-representable numbers, uniform in center +- scale."""

    def __init__(self, seed):
        self.state = seed * 2 + 1

    def take(self, count, scale, center=0.0):
        values = []
        for _ in range(count):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
            value = center + scale * ((self.state >> 40) / 2 ** 23 - 1)
            values.append(struct.unpack("e", struct.pack("e", value))[0])
        return values


def tensors(config, seed):
    """Name -> (shape, values), as OPTForCausalLM names them; the tied head is left out."""
    numbers, result = Numbers(seed), {}
    h, f, e, vocab = (config[key] for key in ("hidden_size", "ffn_dim", "word_embed_proj_dim", "vocab_size"))

    def add(name, *shape, scale=0.45, center=0.0):
        count = 1
        for axis in shape:
            count *= axis
        result[name] = (shape, numbers.take(count, scale, center))

    def norm(name):
        if config["layer_norm_elementwise_affine"]:
            add(name + ".weight", h, scale=0.5, center=1.0)
            add(name + ".bias", h, scale=0.3)

    def linear(name, out, into):
        add(name + ".weight", out, into)
        if config["enable_bias"]:
            add(name + ".bias", out, scale=0.3)

    stem = "model.decoder."
    add(stem + "embed_tokens.weight", vocab, e, scale=0.9)
    add(stem + "embed_positions.weight", config["max_position_embeddings"] + 2, h, scale=0.9)
    if e != h:
        add(stem + "project_in.weight", h, e)
        add(stem + "project_out.weight", e, h)
    for layer in range(config["num_hidden_layers"]):
        at = f"{stem}layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{at}self_attn.{part}", h, h)
        norm(at + "self_attn_layer_norm")
        linear(at + "fc1", f, h)
        linear(at + "fc2", h, f)
        norm(at + "final_layer_norm")
    if config["do_layer_norm_before"]:
        norm(stem + "final_layer_norm")
    return result


def pack(values, dtype):
    return struct.pack(f"<{len(values)}{CODES[dtype][0]}", *values)


def write_safetensors(path, state, dtype):
    header, data, at = {"__metadata__": {"format": "pt"}}, b"", 0
    for name, (shape, values) in state.items():
        payload = pack(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(payload)]}
        data, at = data + payload, at + len(payload)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Storage:
    def __init__(self, key, dtype, count):
        self.reference = ("storage", Global("torch", CODES[dtype][1]), key, "cpu", count)


class Global:
    """A name in a module that need not be there when the pickle is written."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class TorchPickler(pickle._Pickler):  # the one in Python: its dispatch table can be added to
    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value):
        return value.reference if isinstance(value, Storage) else None

    def save_name(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    def save_tensor(self, value):
        self.save(Global("torch._utils", "_rebuild_tensor_v2"))
        self.save(value.arguments)
        self.write(pickle.REDUCE)

    dispatch[Global] = save_name


class Tensor:
    def __init__(self, storage, shape):
        strides, step = [], 1
        for axis in reversed(shape):
            strides.insert(0, step)
            step *= axis
        self.arguments = (storage, 0, tuple(shape), tuple(strides), False, {})


TorchPickler.dispatch[Tensor] = TorchPickler.save_tensor


def write_bin(path, state, dtype):
    """As torch.save writes a dictionary of tensors."""
    out = io.BytesIO()
    entries = {name: Tensor(Storage(str(i), dtype, len(values)), shape)
               for i, (name, (shape, values)) in enumerate(state.items())}
    TorchPickler(out, 2).dump(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", out.getvalue())
        for i, (_, values) in enumerate(state.values()):
            archive.writestr(f"archive/data/{i}", pack(values, dtype))
        archive.writestr("archive/version", "3\n")


def write_shards(folder, state, dtype, kind, also_named=()):
    stem, write = ("pytorch_model", write_bin) if kind == "bin" else ("model", write_safetensors)
    names = [f"{stem}-{i + 1:05d}-of-00003.{kind}" for i in range(3)]
    weight_map = {key: names[0] for key in also_named}
    for i, name in enumerate(names):
        shard = {key: state[key] for key in sorted(state)[i::3]}
        write(folder / name, shard, dtype)
        weight_map.update({key: name for key in shard})
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))


# ---- tokenizers -----------------------------------------------------------------------------------------------

def byte_symbols():
    """Byte -> the character that stands for it in byte-level vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def vocabulary():
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(symbol for _, symbol in sorted(byte_symbols().items()))]
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("i", "n"), ("\u0120", "c"), ("\u0120c", "i"), ("t", "y"),
              ("i", "s"), ("\u0120", "is"), ("e", "r"), ("a", "n"), ("1", "2"), ("!", "!"), ("\u010a", "\u010a")]
    tokens += [left + right for left, right in merges]
    return {token: i for i, token in enumerate(tokens)}, merges


def special(token, i, is_special=True, normalized=False):
    return {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": normalized, "special": is_special}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
TEMPLATE = {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "</s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
# What Galactica's file cuts at before ByteLevel: a marker, digits, runs of one punctuation character, line ends.
GALACTICA_WORDS = {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"String": "SPL1T-TH1S-Pl3A5E"}, "behavior": "Removed", "invert": False},
    {"type": "Digits", "individual_digits": True},
    {"type": "Split", "behavior": "Isolated", "invert": False,
     "pattern": {"Regex": r"[\(\)\[\]\{\}]|([!\"#\$%\&'\*\+,\-\./:;<=>\?\\\^_`\|\~])\1*"}},
    {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": False}, BYTE_LEVEL]}


def tokenizer_json(added, words, post_processor, normalizer=None, pairs=True):
    vocab, merges = vocabulary()
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": words, "post_processor": post_processor,
            "decoder": {**BYTE_LEVEL, "add_prefix_space": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": [list(pair) if pairs else " ".join(pair) for pair in merges]}}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


NAMED = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}


def write_pair(folder):
    """vocab.json and merges.txt, as OPT was published."""
    vocab, merges = vocabulary()
    write_json(folder / "vocab.json", vocab)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, **NAMED})


def write_pair_of_4(folder):
    write_pair(folder)
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False, "special": True}
    tokens = {"1": "<pad>", "2": "</s>"}
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": False, **NAMED,
                "added_tokens_decoder": {key: {"content": text, **flags} for key, text in tokens.items()}})
    write_json(folder / "special_tokens_map.json", NAMED)


def write_whole(folder):
    """tokenizer.json alone, as transformers 5 writes it, with a token that stands nowhere else."""
    added = [special("<pad>", 1), special("</s>", 2), special("<tool>", 274, False, True)]
    write_json(folder / "tokenizer.json", tokenizer_json(added, BYTE_LEVEL, TEMPLATE))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "backend": "tokenizers",
                                                  "add_prefix_space": False, **NAMED})


def write_galactica(folder):
    added = [special(token, i) for i, token in enumerate(("<s>", "<pad>", "</s>", "<unk>"))]
    added.append(special("[START_REF]", 274, False))
    write_json(folder / "tokenizer.json",
               tokenizer_json(added, GALACTICA_WORDS, None, {"type": "NFKC"}, pairs=False))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    write_json(folder / "special_tokens_map.json", {})


# ---- folders --------------------------------------------------------------------------------------------------

class Form:
    """How a folder is written; `open` is what --model is given, `reference` the same weights for transformers."""

    def __init__(self, changes=None, dtype="F16", weights="safetensors", tokenizer=write_pair, generation=None,
                 old_dtype_name=False):
        self.config = {**BASE, **(changes or {})}
        self.config["torch_dtype" if old_dtype_name else "dtype"] = NAMES[dtype]
        self.dtype, self.weights, self.tokenizer, self.generation = dtype, weights, tokenizer, generation

    def write(self, folder, seed, own_head=False, prefix=""):
        folder.mkdir(parents=True, exist_ok=True)
        state = tensors(self.config, seed)
        if own_head:
            shape, _ = state["model.decoder.embed_tokens.weight"]
            state["lm_head.weight"] = (shape, Numbers(seed + 7777).take(shape[0] * shape[1], 0.9))
        state = {prefix + key: value for key, value in state.items()}
        if self.weights == "safetensors":
            write_safetensors(folder / "model.safetensors", state, self.dtype)
        elif self.weights == "bin":
            write_bin(folder / "pytorch_model.bin", state, self.dtype)
        else:
            kind = self.weights.removeprefix("sharded_")
            write_shards(folder, state, self.dtype, kind, ["lm_head.weight"] if kind == "safetensors" else [])
        write_json(folder / "config.json", self.config)
        if self.tokenizer:
            self.tokenizer(folder)
        if self.generation is not None:
            write_json(folder / "generation_config.json", self.generation)
        return folder


IDS = {"_from_model_config": True, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
FORMS = {
    "opt_350m": Form({"do_layer_norm_before": False, "word_embed_proj_dim": 16}, weights="bin", old_dtype_name=True),
    "opt_iml": Form({"ffn_dim": 96, "prefix": "</s>"}, weights="bin", generation=IDS, old_dtype_name=True),
    "galactica": Form({"activation_function": "gelu", "bos_token_id": 0, "enable_bias": False,
                       "layer_norm_elementwise_affine": False}, tokenizer=write_galactica, old_dtype_name=True),
    "saved_by_4": Form(tokenizer=write_pair_of_4, generation=IDS, old_dtype_name=True),
    "saved_by_5": Form(dtype="F32", tokenizer=write_whole, generation=IDS),
    "own_head": Form(dtype="F32", tokenizer=write_whole),
    "sharded_safetensors": Form(weights="sharded_safetensors"),
    "sharded_bin": Form(weights="sharded_bin"),
    "single_bin": Form(weights="bin", dtype="F32"),
    "hub_cache": Form(generation=IDS),
    "no_tokenizer": Form(tokenizer=None),
    "float64": Form(dtype="F64"),
    "float64_bin": Form(dtype="F64", weights="bin"),
    "wrapped": Form(),
    "several_ends": Form({"eos_token_id": 5}, dtype="F32"),
    "no_end": Form(generation={"bos_token_id": 2, "eos_token_id": None}),
}
TEXTS = ["the city is in the an", "", "12!!  (x) \n\n", "a</s>b<tool> [START_REF] c", "SPL1T-TH1S-Pl3A5E1234  ini",
         "\u00e9\u4e2d \U0001f600 it's"]
TOKEN_IDS = [[2, 17, 99, 200], [5], [250, 260, 3, 4, 5, 6, 7, 8, 9, 10, 11]]


def build(name, place, seed, ends=None, wraps=True):
    """Makes the folder of a form in `place`; returns what --model is given. `ends`: ids that rows bring forth."""
    form = FORMS[name]
    if name == "several_ends":
        form.generation = {"eos_token_id": ends}
    if name == "no_end":
        form.config["eos_token_id"] = ends[0]
    if name == "hub_cache":
        root = place / "models--org--tiny"
        form.write(root / "snapshots" / "0123abc", seed)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text("0123abc")
        return root
    return form.write(place / name, seed, own_head=name == "own_head",
                      prefix="module." if name == "wrapped" and wraps else "")


def prompts(name):
    return TOKEN_IDS if name == "no_tokenizer" else TEXTS + TOKEN_IDS
