"""What a folder with a tokenizer.json may say about a text, in small folders: which file counts, and for what.

Standard library only. model_folders_test.py runs them through the program; make_model_folders.py, through transformers,
writes the ids of TEXTS.
"""
from model_folders import BYTE_LEVEL, GALACTICA_WORDS, NAMED, TEMPLATE, Form, special, tokenizer_json, write_json

GPT2, WHOLE = {"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "PreTrainedTokenizerFast"}
KNOWN = [special("<pad>", 1), special("</s>", 2)]
TOOL = special("<tool>", 274, False, True)
EATER = {**special("<l>", 275, False), "lstrip": True, "rstrip": True}
ROBERTA = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True,
           "add_prefix_space": False}
NFKC = {"type": "NFKC"}


def decoder(**entries):
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"added_tokens_decoder": {key[1:]: {"content": content, "special": is_special, **flags}
                                     for key, (content, is_special) in entries.items()}}


NAMES = decoder(_1=("<pad>", True), _2=("</s>", True))
# name -> (added tokens, words, normalizer, post-processor), tokenizer_config.json, and other files
CASES = {
    "decoder_says_all": ((KNOWN + [TOOL], BYTE_LEVEL, None, TEMPLATE), {**GPT2, **NAMED, **NAMES}, {}),
    "added_in_the_file": ((KNOWN + [TOOL, EATER], BYTE_LEVEL, None, TEMPLATE), {**GPT2, **NAMED}, {}),
    "map_names": ((KNOWN + [TOOL], BYTE_LEVEL, None, TEMPLATE), GPT2,
                  {"special_tokens_map.json": {**NAMED, "additional_special_tokens": ["<x>"]}}),
    "added_in_another_file": ((KNOWN + [TOOL], BYTE_LEVEL, None, TEMPLATE), {**GPT2, **NAMED},
                              {"added_tokens.json": {"<late>": 275}}),
    "begin_token_in_the_config": ((KNOWN, BYTE_LEVEL, None, None), {**GPT2, **NAMED, "add_bos_token": True}, {}),
    "begin_token_in_the_file": ((KNOWN, BYTE_LEVEL, None, TEMPLATE), {**GPT2, **NAMED, "add_bos_token": False}, {}),
    "prefix_space": ((KNOWN, BYTE_LEVEL, None, TEMPLATE), {**GPT2, **NAMED, "add_prefix_space": True}, {}),
    "words_of_gpt2": ((KNOWN, GALACTICA_WORDS, NFKC, TEMPLATE), {**GPT2, **NAMED}, {}),
    "no_class": ((KNOWN + [TOOL], BYTE_LEVEL, None, TEMPLATE), NAMED, {}),
    "extra_tokens": ((KNOWN, BYTE_LEVEL, None, TEMPLATE), {**GPT2, **NAMED, "extra_special_tokens": ["<x>"]}, {}),
    "whole_names": ((KNOWN + [TOOL, EATER], BYTE_LEVEL, None, ROBERTA), {**WHOLE, **NAMED, "mask_token": "<mask>"}, {}),
    "whole_begin_token": ((KNOWN, BYTE_LEVEL, None, None), {**WHOLE, **NAMED, "add_bos_token": True}, {}),
    "whole_galactica": ((KNOWN + [TOOL, EATER, special("\u00b2x", 276, False, True)], GALACTICA_WORDS, NFKC, None), WHOLE, {}),
    "whole_decoder": ((KNOWN, BYTE_LEVEL, None, None), {**WHOLE, **NAMED, **NAMES}, {}),
    "whole_sequence": ((KNOWN, BYTE_LEVEL, None, {"type": "Sequence", "processors": [BYTE_LEVEL, TEMPLATE]}),
                       {**WHOLE, **NAMED}, {}),
    "whole_prefix_space": ((KNOWN + [TOOL], {**BYTE_LEVEL, "add_prefix_space": True}, None, TEMPLATE),
                           {"tokenizer_class": "TokenizersBackend", **NAMED}, {}),
}
TEXTS = ["the city <tool> x<l> y </s><pad>a", "a <l>  b<new>c<late>d<x>e<mask>", " lead 12!! (x)\n\nSPL1T-TH1S-Pl3A5E z",
         "\u00b2x 2x x\u00b2 \u00bd", "<tool>", "the"]


def build(name, place):
    (added, words, normalizer, post_processor), config, others = CASES[name]
    folder = Form(tokenizer=None).write(place / name, 1)
    write_json(folder / "tokenizer.json", tokenizer_json(added, words, post_processor, normalizer))
    write_json(folder / "tokenizer_config.json", config)
    for file, content in others.items():
        write_json(folder / file, content)
    return folder
