"""Small tokenizers of every kind that people use, trained on a few lines; each merges what those lines repeat.

Knows no tree and no measurement.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as token_models
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

import hf_canary.models as models

LINES = [
    "the pin is 00 11 12 123 the pin is 99 12 11 0 7",
    "pin12 pin 34 is 345 is 1234 the cat cats catsing sinning thing a an ant",
    "the number is 1200 abing ing ring abab ba the Pin THE é 日本 cafés naïve",
] * 10
ALL = "".join(sorted(set("".join(LINES) + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -./é日本🙂")))
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(regex, vocab_size=420, ignore_merges=False):
    tokenizer = Tokenizer(token_models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def _prefix_space():
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def _byte_fallback():
    """Llama 2's way: no words, a space in front, bytes for what is not in the vocabulary."""
    normal = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained = Tokenizer(token_models.BPE())
    trained.normalizer = normal
    trained.train_from_iterator(
        [line.replace("日本", "") for line in LINES], trainers.BpeTrainer(vocab_size=130, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    vocab = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    for token in sorted(model["vocab"], key=model["vocab"].get):
        vocab.setdefault(token, len(vocab))
    for character in "0123456789abcdefghijklmnopqrstuvwxyz":
        vocab.setdefault(character, len(vocab))
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(token_models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normal
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")


def _unigram(normalizer=None, byte_fallback=False):
    """T5's and XLM-R's way."""
    tokenizer = Tokenizer(token_models.Unigram())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, unk_token="<unk>", special_tokens=["<unk>"], initial_alphabet=list(ALL), show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")


def _wordpiece():
    """BERT's way: lower case, no accents, spaces dropped."""
    tokenizer = Tokenizer(token_models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=260, special_tokens=["[UNK]"], initial_alphabet=[*ALL.lower().replace(" ", "")], show_progress=False
    )
    spread = [
        " ".join(c * 3 for c in ALL.lower() if c.isalnum() or c == "🙂")
    ] * 3  # each character in the middle of a word
    tokenizer.train_from_iterator([*LINES, *spread], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="<end>")


def _end_of_word():
    """CLIP's way: lower case, no spaces, and a mark behind each word's last letter."""
    tokenizer = Tokenizer(token_models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.BPEDecoder()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(token_models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer, trained.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=330, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator(LINES, trainer)
    model = json.loads(trained.to_str())["model"]
    entries = dict.fromkeys([*alphabet, *(c + "</w>" for c in alphabet), *model["vocab"], "<unk>"])
    tokenizer.model = token_models.BPE(
        {entry: id for id, entry in enumerate(entries)},
        [tuple(merge) for merge in model["merges"]],
        unk_token="<unk>",
        end_of_word_suffix="</w>",
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")


def _further_pieces():
    """Words of merges that write their first letter and the further ones as entries of their own."""
    trained = Tokenizer(token_models.BPE(continuing_subword_prefix="##"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=200, continuing_subword_prefix="##", show_progress=False)
    trained.train_from_iterator(LINES, trainer)
    model = json.loads(trained.to_str())["model"]
    letters = [c for c in ALL if c != " "]
    entries = dict.fromkeys([*letters, *("##" + c for c in letters), *model["vocab"], "<unk>"])
    tokenizer = Tokenizer(
        token_models.BPE(
            {entry: id for id, entry in enumerate(entries)},
            [tuple(merge) for merge in model["merges"]],
            unk_token="<unk>",
            continuing_subword_prefix="##",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")


def _whole_words():
    """Llama 3's way, with words in the vocabulary that no merges reach."""
    tokenizer = _byte_level(LLAMA3, ignore_merges=True)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocab = dict(model["vocab"])
    for entry in ["Ġthing", "Ġcatsi", "123", "baing", "Ġa.", "aba", "cafÃ©", "Ġaban", "7-", "Ġ12"]:
        vocab.setdefault(entry, len(vocab) + 1)  # behind the end token
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer.backend_tokenizer.model = token_models.BPE(vocab, merges, ignore_merges=True)
    return tokenizer


def _added():
    """GPT-2's way, with added tokens: words, one that takes the spaces beside it, one that must stand alone."""
    tokenizer = _byte_level(GPT2)
    tokenizer.add_tokens([AddedToken("cat"), AddedToken("sing", single_word=True), AddedToken("ab", normalized=False)])
    tokenizer.add_tokens(
        [AddedToken("PIN", lstrip=True), AddedToken("12", rstrip=True), AddedToken("é ", special=True)]
    )
    return tokenizer


def _composing():
    """GPT-2's way behind NFC, which makes one of a letter and its accent."""
    tokenizer = _byte_level(GPT2)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def letters_alone(alphabet=None, *, merged=(), add_prefix_space=False):
    """Byte-level, of these letters or all, each a token; beside them pairs that it merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet() if alphabet is None else alphabet)
    vocab = {token: number for number, token in enumerate([*letters, *map("".join, merged)])}
    tokenizer = Tokenizer(token_models.BPE(vocab=vocab, merges=list(merged)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def apostrophe_merged():
    """As GPT-2 it merges = and the apostrophe, and cuts 's and 'll off: after = alone, dead ends show late."""
    return letters_alone(merged=[("=", "'")])


def words_of_pieces():
    """As T5's: text is split at spaces, and pieces begin with a mark; a space that nothing follows leaves no trace."""
    tokenizer = Tokenizer(token_models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], initial_alphabet=[*ALL, "▁"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


KINDS = {
    "gpt2": lambda: _byte_level(GPT2),
    "llama3": lambda: _byte_level(LLAMA3, ignore_merges=True),
    "qwen": lambda: _byte_level(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")),
    "prefix-space": _prefix_space,
    "byte-fallback": _byte_fallback,
    "unigram": _unigram,
    "unigram-nfkc": lambda: _unigram(normalizers.NFKC()),
    "wordpiece": _wordpiece,
    "characters": lambda: models.character_tokenizer([ALL]),
    "words": lambda: models.word_tokenizer([*LINES, ALL]),
    "bytes": ByT5Tokenizer,
}
# Those with parts that few have, where each kind is to be followed exactly.
RARE_KINDS = {
    "end-of-word": _end_of_word,
    "further-pieces": _further_pieces,
    "whole-words": _whole_words,
    "added": _added,
    "composing": _composing,
}


def without_bos(tokenizer):
    """The same tokenizer, that puts nothing first."""
    bare = models.character_tokenizer([c for c in tokenizer.get_vocab() if len(c) == 1])
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    return bare
