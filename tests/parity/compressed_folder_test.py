"""generate --save-compressed on a checkpoint whose matrices take several parts, on one rank and two: the bytes are those
that one thread makes, and a run from the folder gives the tokens of the run that wrote it.

usage: compressed_folder_test.py FLEXGEN-DIST COMPRESSED-CHECK
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM, CHECK = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO_MODEL = ROOT / "configs/demo-model"
SIZES = {"hidden_size": 512, "word_embed_proj_dim": 512, "ffn_dim": 4096, "num_hidden_layers": 2, "num_attention_heads": 8}


def numbers(count, seed):
    """`count` float16 values about 0, as bytes: little-endian patterns with exponents of 2^-6 and less."""
    state, words = seed * 2 + 1, []
    for _ in range((count + 3) // 4):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        words.append((state >> 1 ^ state) & 0xA7FFA7FFA7FFA7FF)
    return struct.pack(f"<{len(words)}Q", *words)[:2 * count]


def write_model(folder):
    """The demo model's form with larger matrices: a first MLP matrix has four parts."""
    folder.mkdir()
    config = json.loads((DEMO_MODEL / "config.json").read_text()) | SIZES
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((DEMO_MODEL / name).read_bytes())
    h, f = SIZES["hidden_size"], SIZES["ffn_dim"]
    shapes = {"embed_tokens.weight": [config["vocab_size"], h],
              "embed_positions.weight": [config["max_position_embeddings"] + 2, h]}
    norms = ["final_layer_norm"]
    for i in range(SIZES["num_hidden_layers"]):
        layer = f"layers.{i}."
        linear = {layer + f"self_attn.{name}_proj": (h, h) for name in ("q", "k", "v", "out")}
        for name, (rows, cols) in (linear | {layer + "fc1": (f, h), layer + "fc2": (h, f)}).items():
            shapes |= {name + ".weight": [rows, cols], name + ".bias": [rows]}
        norms += [layer + "self_attn_layer_norm", layer + "final_layer_norm"]
    for name in norms:
        shapes |= {name + ".weight": [h], name + ".bias": [h]}
    header, data = {}, []
    at = 0
    for seed, (name, shape) in enumerate(shapes.items()):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        data.append(numbers(count, seed))
        header["model.decoder." + name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + 2 * count]}
        at += 2 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


class CompressedFolder(unittest.TestCase):
    def test_bytes_and_tokens(self):
        with tempfile.TemporaryDirectory(prefix="flexgen-compressed-") as place:
            place = pathlib.Path(place)
            write_model(place / "model")
            rows = place / "rows.jsonl"
            rows.write_text("".join(json.dumps({"prompt": [2, 5 + i, 9], "max_tokens": 6}) + "\n" for i in range(3)))
            for ranks, bits in ((1, "4"), (2, "8")):
                saved = place / f"saved-{bits}"
                compress = ["--compress-weight", "--weight-bits", bits]
                written = self.generate(place / "model", rows, ranks, *compress, "--save-compressed", saved)
                subprocess.run([CHECK, place / "model", saved], check=True, stdout=subprocess.DEVNULL)
                self.assertEqual(self.generate(saved, rows, 1), written)
                self.assertEqual(self.generate(place / "model", rows, 1, *compress), written)

    def generate(self, model, rows, ranks, *words):
        output = rows.with_name("out.jsonl")
        launcher = [] if ranks == 1 else [ROOT / "launch/mpirun.sh", "-n", str(ranks)]
        subprocess.run([*launcher, PROGRAM, "generate", "--model", model, "--input", rows, "--output", output, "--overwrite",
                        "--device", "cpu", "--dtype", "float32", "--return-token-ids", "--quiet", *words], check=True)
        return sorted(output.read_text().splitlines())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
