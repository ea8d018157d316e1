"""Token trees of real tokenizers against enumeration, and what they cost.

Each tokenizer is a folder of its own. Some sixty formats behind up to four contexts each are derived and compared with
the encodings of all fills, leaf by leaf; a case that differs is made smaller. --speed measures large formats instead.

    python benchmarks/trees.py ~/.cache/hf-canary-tokenizers/* [--formats pin code] [--default]
    python benchmarks/trees.py ~/.cache/hf-canary-tokenizers/qwen3 --speed
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.append(str(Path(__file__).absolute().parents[1]))  # the tests, behind whatever PYTHONPATH names

from transformers import AutoTokenizer
from trees_fuzz import without

from hf_canary import CanaryFormat
from hf_canary.errors import CanaryError
from hf_canary.tokenization.encoding import encode
from hf_canary.tree.token_tree import TokenTree
from tests.support.laws_of_trees import Broken, TooSlow, at_most, derived, equal, holds, walked


def listed(text: str) -> list[str]:
    return text.split(",")


LIMIT, REFUSED_WITHIN, SHRINK_SECONDS = 30.0, 1.0, 20.0  # seconds of the CPU
MANY = 600  # fills; what has more is compared behind no context alone
PLAIN = {"digit": "0123456789", "lower": "abcdefghijklmnopqrstuvwxyz", "hex": "0123456789abcdef"}

NOUNS = listed(
    "fox,café,ice cream,New York,don't,o'clock,e.g.,U.S.A.,rock 'n' roll,they'll,I'm  here,naïve,re-do,x²,No. 5,A/B,😀"
)
FIRST = listed("red ,a ,the ,my  ,Dr. ,it's ,“,pre-,un,über,¿,(,$,@,#1 ,1st ,...,é,'twas ,O',' ,—,3.,İ,ß")
SCRIPTS = listed(
    "hello,привет,γειά,שלום,سلام,नमस्ते,স্বাগতম,வணக்கம்,నమస్తే,ನಮಸ್ಕಾರ,สวัสดี,ສະບາຍດີ,မင်္ဂလာပါ,გამარჯობა,ሰላም,ជំរាបសួរ,"
    "안녕하세요,こんにちは,カタカナ,你好,Բարև,བཀྲ་ཤིས,ᠮᠣᠩᠭᠣᠯ,ᏣᎳᎩ,𐍈𐌰𐌹𐍂𐌻𐌰,𝒜𝓁𝓁,ﬁne,ＡＢＣ,½,Å"
)
EMOJI = listed("😀,👍🏽,👩‍🚀,👨‍👩‍👧,🇩🇪,🏳️‍🌈,❤️,❤,1️⃣,☺,🤷🏿‍♀️")
CZECH = listed(
    "důležité,důležitého,důkaz,zástup,zástupce,zástava,культури,культуризм,культ,über,übel,niño,niña,œuvre,œuf"
)
VIETNAMESE = listed("Nguyễn,Trần,Lê,Phạm,Hoàng,Huỳnh,Võ,Đặng,Bùi,Đỗ,Ngô,Dương,Lý")
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", " \n", "\n ", "\r\n", "\u00a0", "\u3000", " \t ", "\u2009", "\u200b"]


@dataclass(frozen=True)
class Case:
    """A format behind a context; candidates that are prefixes of one another have the end token behind them."""

    template: str
    spaces: dict[str, list[str]]
    context: str | None = None

    @cached_property
    def format(self) -> CanaryFormat:
        return CanaryFormat(self.template, spaces=self.spaces or None)

    def __str__(self) -> str:
        words = {name: entries[:8] + ["..."][: len(entries) > 8] for name, entries in self.spaces.items()}
        return f"{self.template!r} {words or ''} context {self.context!r}"


class Found:
    """A case as `walked` takes it: what the tokenizer makes of every fill; or why it cannot."""

    def __init__(self, case: Case, tokenizer: Any) -> None:
        self.case, self.format, self.tokenizer = case, case.format, tokenizer
        self.end = None if case.format.prefix_free else int(tokenizer.eos_token_id or 0)
        self.texts, self.is_whole = list(case.format.candidates()), True
        self.refusal: CanaryError | None = None
        self.sequences: list[tuple[int, ...]] = []
        self.conditioned = 0
        try:
            encoding = encode(tokenizer, self.texts, context=case.context)
        except CanaryError as error:
            self.refusal = error
            return
        behind = () if self.end is None else (self.end,)
        self.sequences, self.conditioned = [(*ids, *behind) for ids in encoding.sequences], encoding.conditioned

    @cached_property
    def tree(self) -> TokenTree:
        return TokenTree(self.format, self.tokenizer, context=self.case.context, end=self.end)


def check(tree: TokenTree, found: Found) -> None:
    """The leaves are the encodings, each once; texts and paths are each other's."""
    holds("it is certain", tree.is_certain, "it is not")
    prompt, leaves = tuple(tree.prompt), walked(tree, found)
    holds("walks what can be encoded", not found.refusal, f"{found.refusal}")
    of = dict(zip(found.sequences, found.texts, strict=True))
    whole = {(*prompt, *path) for path in leaves}
    equal("no leaf twice", len(leaves), len(whole))
    lost, extra = sorted(set(of) - whole), sorted(whole - set(of))
    if lost or extra:
        raise Broken(
            "other leaves" if lost and extra else "leaves are lost" if lost else "leaves that are none",
            f"{len(lost)} of {len(of)} lost, as of {[(of[ids], ids) for ids in lost[:2]]}; "
            f"{len(extra)} extra {extra[:2]}",
        )
    equal("space_size", tree.space_size, len(of))
    equal("conditioned", tree.conditioned, found.conditioned)
    holds("depth bounds the leaves", max(map(len, leaves)) <= tree.depth, "it does not")
    ways = Counter(found.sequences)
    for path in random.Random(0).sample(leaves, min(40, len(leaves))):
        text = tree.text(path)
        fill = found.format.parse(text)
        equal("the text of a path is encoded so", found.sequences[fill], (*prompt, *path))
        equal("copies", tree.copies(fill), ways[*prompt, *path])
        holds("a part of a path is no leaf", not tree.leads(path[:-1]) or (*prompt, *path[:-1]) in of, f"{path[:-1]}")
    for path in leaves:
        holds("a leaf leads", tree.leads(path), f"{path} does not")


@dataclass(frozen=True)
class Verdict:
    """What came of a case, with seconds of the CPU and what the process grew by."""

    kind: str
    detail: str = ""
    root: float = 0.0
    descent: float = 0.0
    grown: int = 0


def judged(case: Case, tokenizer: Any, derive: bool) -> Verdict:
    """The tree against enumeration."""
    found = Found(case, tokenizer)
    memory, began = resident(), time.process_time()
    root = descent = 0.0
    try:
        with at_most(LIMIT), derived(derive):
            tree = found.tree
            root = time.process_time() - began
            descend(tree, random.Random(0))
            descent = time.process_time() - began - root
            grown = resident() - memory
            check(tree, found)
        return Verdict("equal", "", root, descent, grown)
    except CanaryError as error:
        root = time.process_time() - began
        kind = "refused rightly" if found.refusal else "refused"
        return Verdict(kind if root < REFUSED_WITHIN else "refused late", f"{error.argument}: {error.got}", root)
    except Broken as broken:
        return Verdict(f"different: {broken.law}", broken.detail, root, descent)
    except TooSlow:
        return Verdict("different: takes too long", f"root {root:.1f}, descent {descent:.1f} s", root, descent)
    except Exception as error:
        return Verdict(f"different: raises {type(error).__name__}", str(error)[:300], root, descent)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descend(tree: TokenTree, rng: random.Random) -> list[int]:
    """A random path from the root to a leaf."""
    path, state = [], tree.root
    while True:
        edges = tree.edges(state)
        at = rng.randrange(len(edges.tokens))
        path.append(int(edges.tokens[at]))
        state = int(edges.states[at])
        if edges.is_leaf[at] and (state < 0 or rng.random() < 0.5):
            return path


# -------------------------------------------------------------------------------------------------------- what is tried


def formats(tokenizer: Any) -> dict[str, tuple[str, dict[str, list[str]]]]:
    """Templates by name, with their own spaces."""
    rng = random.Random("formats")
    entries = sorted({text for text in entries_of(tokenizer) if "�" not in text and text.strip() and len(text) < 20})
    entries = rng.sample(entries, min(30_000, len(entries)))
    ids = tokenizer(entries, add_special_tokens=False)["input_ids"]
    unreachable = [text for text, path in zip(entries, ids, strict=True) if len(path) > 1]
    inner = sorted({text.strip() for text in entries})
    starts = [text for text in inner if 1 < len(text) < 5]
    nested = [text for start in rng.sample(starts, 8) for text in inner if text.startswith(start)][:400]
    special = list(dict.fromkeys([*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]))[:12]
    inside = [f"a{token}b" for token in special] + [f" {token} " for token in special] + ["plain", "<x>"]
    phrases = [one + other for one, other in itertools.product(FIRST, NOUNS)]
    syllables = listed("kin,ka,kan,shi,ing,ed,e,s,der,ten,tion,ation,ly,lly,'s,er,est,ist,ism,able")
    words = [one + other for one, other in itertools.product(listed("read,un,plan,dark,cha,Kön,e,st"), syllables)]
    names = listed("Ann,Anna,Annabel,Jo,John,Johnson,Max,Maximilian,Li,Lisa,Li Wei")

    def some(texts: Sequence[str], number: int = 300) -> list[str]:
        texts = list(dict.fromkeys(texts))
        return rng.sample(texts, min(number, len(texts))) or ["none", "at all"]

    nfd = [unicodedata.normalize("NFD", word) for word in VIETNAMESE]
    chinese, arabic = list("王李张刘陈杨黄赵吴周"), list("٠١٢٣٤٥٦٧٨٩")
    return {
        "pin": ("My PIN is {digit:4}", {}),
        "pin and stop": ("My PIN is {digit:3}.", {}),
        "digits first": ("{digit:3} is it", {}),
        "digits in a word": ("abc{digit:3}def", {}),
        "digits between digits": ("20{digit:3}17 x", {}),
        "dashes": ("{digit:2}-{digit}-x{digit}", {}),
        "spaces around": ("a {digit} {digit}  {digit}   b", {}),
        "line ends": ("a\n{digit:2}\n\n{digit}\n", {}),
        "line ends of Windows": ("a\r\n{digit:2}\r\n\r\n {digit}\r\n", {}),
        "tabs": ("\t{digit:2}\t\t{digit} ", {}),
        "number": ("1,{digit:3}.{digit}", {}),
        "phone": ("+1 ({digit:2}) {digit}-00", {}),
        "time": ("at {digit}:{digit:2}:00Z", {}),
        "lower": ("id {lower:2}x{digit}", {}),
        "lower first": ("{lower:2}{digit}", {}),
        "upper": ("{upper:2}-{digit}", {}),
        "letters": ("key_{letter:2}z", {}),
        "hex": ("0x{hex:3}", {}),
        "alnum": ("token={alnum:2};", {}),
        "luhn": ("card {digit:2}-{digit}{luhn}", {}),
        "luhn in the middle": ("{digit:2}{luhn} {digit}{luhn}.", {}),
        "code": ("def f_{lower}(x):\n    return x[{digit:2}]\n", {}),
        "url": ("https://a.b/{lower}?q={digit:2}&r=%20", {}),
        "phrases": ("He likes {w}.", {"w": phrases}),
        "phrases first": ("{w} it is", {"w": phrases}),
        "phrases twice": ("{w}, {v}!", {"w": phrases[::19], "v": phrases[::13]}),
        "glued": ("un{w}ing.", {"w": words}),
        "glued twice": ("{w}{digit:2}", {"w": words[::3]}),
        "possessive": ("{w}'s {v}'ll.", {"w": words[::5], "v": [*names, "it"]}),
        "don't": ("don'{lower:2} go", {}),
        "curly": ("it’{lower} “{w}”", {"w": words[::7]}),
        "Chinese": (
            "我叫{w}{v}。",
            {"w": chinese, "v": [one + other for one in "小国文" for other in ["", *"明华强芳"]]},
        ),
        "Korean": ("나는 {w}{v}.", {"w": list("김이박최정"), "v": ["민수", "민", "수진", "지", "ᄒ", "가"]}),
        "Thai": ("ผม{w}ครับ", {"w": ["ชื่อ", "ชอบ", "รัก", "กิน", "กำ", "ก", "น้ำ"]}),
        "Vietnamese": ("Tôi là {w} {v}.", {"w": VIETNAMESE, "v": VIETNAMESE[::-1]}),
        "Vietnamese in parts": ("Tôi là {w} {v}.", {"w": nfd, "v": nfd[::-1]}),
        "scripts": ("say {w}!", {"w": SCRIPTS}),
        "scripts glued": ("{w}{v}", {"w": [*SCRIPTS, "x"], "v": list("1-aé")}),
        "marks": (
            "a{w}e{v}.",
            {"w": ["\u0301", "\u0323\u0301", "\u0301\u0323", "\u200d", "\u0308"], "v": ["\u0300", "́x"]},
        ),
        "wide": ("Ｎｏ{w}！", {"w": ["ＡＢ", "ﬁ", "①", "㎏", "ｶﾞ", "Ⅷ", "²", "AB"]}),
        "emoji": ("so {w}{v}.", {"w": EMOJI, "v": [":)", *EMOJI[::2]]}),
        "Arabic digits": ("رقم {w}{w}{w}", {"w": arabic}),
        "entries": ("go{w}.", {"w": some([text for text in entries if text[0] == " "] or entries)}),
        "entries after a space": ("go {w}.", {"w": some(inner)}),
        "entries glued": ("x{w}y", {"w": some(entries)}),
        "entries first": ("{w} go", {"w": some(inner)}),
        "entries side by side": ("{w} {v}", {"w": some(inner, 30), "v": some(inner, 30)}),
        "unreachable": ("go{w}.", {"w": some(unreachable)}),
        "unreachable after a space": ("go {w}", {"w": some(text.strip() for text in unreachable)}),
        "nested entries": ("go {w}", {"w": some(nested)}),
        "white space": ("a{w}b", {"w": SPACES}),
        "white space first": ("{w}x{v}", {"w": SPACES, "v": ["\n", " ", "  ", "\t\t"]}),
        "white space between": ("a {w}{digit} {v}b", {"w": [*SPACES[1:5], "-"], "v": [" ", "-", "\n", "  x"]}),
        "names": ("I am {w}", {"w": names}),
        "names twice": ("{w} and {v}", {"w": names, "v": names}),
        "special": ("I am {w}.", {"w": inside}),
        "special alone": ("go {w} {digit}", {"w": [*special, "x"]}),
        "special cut": (
            "so <{w}>{v}",
            {"w": ["s", "/s", "|", "|im_start|", "pad", "mask"], "v": ["x", ">", " <s>", "</s>"]},
        ),
        "spaces collapsed": ("a{w}b  {v}c", {"w": [" ", "  ", "   ", " x "], "v": ["1", " 1", "2 "]}),
        "beginnings": ("říká {w} a", {"w": [*CZECH, *words[::6]]}),
        "beginnings alone": ("{w}", {"w": [*CZECH, *(word.upper() for word in CZECH), *words[::9]]}),
        "capitals": ("I {w} it", {"w": ["like", "Like", "LIKE", "İt", "it", "straße", "STRASSE", "é", "É", "e"]}),
        "punctuation": (
            "a{w}{v}b",
            {"w": ["!", "!!", "...", "--", "?!", "//", "'", "''", "``"], "v": [".", " .", "'s", "(", "\n"]},
        ),
        "many lines": ("- {w}\n  - {v}\n", {"w": words[::11], "v": ["x", "*y*", "`z`", "1."]}),
    }


def entries_of(tokenizer: Any) -> list[str]:
    """The texts that entries of the vocabulary stand for."""
    return [tokenizer.convert_tokens_to_string([token]) for token in tokenizer.get_vocab()] + [
        token.replace("▁", " ") for token in tokenizer.get_vocab() if "▁" in token
    ]


def contexts(tokenizer: Any, case: Case, entries: Sequence[str]) -> Iterator[str | None]:
    """None, a plain one, a chat, and one whose last letters are a token together with the first of the canary."""
    yield None
    if case.format.space_size > MANY:
        return
    canary = case.format.render(0)
    yield next((plain for plain in ("so ", "so") if not merges(tokenizer, plain, canary)), "so:\n")
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": "Who is it?"}]
        yield tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    else:
        marks = (mark for mark in (tokenizer.bos_token, tokenizer.eos_token) if mark)
        yield "".join(f"{mark}user\n" for mark in marks) + "Who?\n"
    first = canary[:2]
    merging = (text[: -len(first)].lstrip() for text in entries if text.endswith(first))
    yield "well " + min(filter(None, merging), key=len, default="x")


def merges(tokenizer: Any, context: str, canary: str) -> bool:
    """Whether the context's tokens change when the canary follows."""
    try:
        encode(tokenizer, [canary], context=context)
    except CanaryError:
        return True
    return False


def known(case: Case, tokenizer: Any) -> Case:
    """Without the entries that the tokenizer does not know, if two are left."""
    if tokenizer.unk_token_id is None:
        return case
    spaces = {}
    for name, entries in case.spaces.items():
        ids = tokenizer(["a " + text for text in entries], add_special_tokens=False)["input_ids"]
        kept = [text for text, path in zip(entries, ids, strict=True) if tokenizer.unk_token_id not in path]
        spaces[name] = kept if len(kept) > 1 else entries
    return replace(case, spaces=spaces)


def smaller(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The same case with fewer entries, letters and holes, as long as it differs."""
    until = time.process_time() + SHRINK_SECONDS
    for name, letters in PLAIN.items():
        single = re.sub(rf"\{{{name}:(\d)\}}", lambda match, name=name: f"{{{name}}}" * int(match[1]), case.template)
        for number in range(single.count(f"{{{name}}}")):
            single = single.replace(f"{{{name}}}", f"{{{name}_{number}}}", 1)
            case = replace(case, spaces={**case.spaces, f"{name}_{number}": list(letters)})
        case = replace(case, template=single)

    def less(items: Sequence[str], put: Callable[[list[str]], Case]) -> Case:
        def still(some: list[str]) -> bool:
            try:
                return time.process_time() < until and fails(put(some))
            except CanaryError:  # no format any more
                return False

        return put(without(items, still))

    for _ in range(2):
        for name in case.spaces:
            case = less(case.spaces[name], partial(_with_words, case, name))
        pieces = re.findall(r"\{[^}]*\}|.", case.template, flags=re.DOTALL)
        case = less(pieces, partial(_with_template, case))
        case = less(list(case.context or ""), partial(_with_context, case))
    return replace(case, spaces={name: some for name, some in case.spaces.items() if f"{{{name}" in case.template})


def _with_words(case: Case, name: str, words: list[str]) -> Case:
    return replace(case, spaces={**case.spaces, name: words})


def _with_template(case: Case, pieces: list[str]) -> Case:
    return replace(case, template="".join(pieces))


def _with_context(case: Case, letters: list[str]) -> Case:
    return replace(case, context="".join(letters) or None)


def compare(folder: Path, names: Sequence[str], most: int, derive: bool) -> int:
    """All formats of one tokenizer; returns how many cases differ."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = judged(Case("a{digit} b", {}), tokenizer, derive)
    entries = entries_of(tokenizer)
    kinds: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    slowest: dict[str, tuple[float, str]] = {"root": (0.0, ""), "descent": (0.0, ""), "MB": (0.0, "")}
    print(f"\n{folder.name}: first use {first.root:.2f} s, {first.grown / 2**20:.0f} MB, {first.kind}", flush=True)
    began = time.process_time()
    for name, (template, spaces) in formats(tokenizer).items():
        if names and name not in names:
            continue
        whole = Case(template, spaces)
        case = whole if name.startswith("scripts") else known(whole, tokenizer)
        for context in itertools.islice(contexts(tokenizer, case, entries), most):
            verdict = judged(replace(case, context=context), tokenizer, derive)
            kinds[verdict.kind] += 1
            told = f"{name}, context {context!r:.30}"
            for what, value in (("root", verdict.root), ("descent", verdict.descent), ("MB", verdict.grown / 2**20)):
                slowest[what] = max(slowest[what], (value, told))
            if verdict.kind in ("refused", "refused late"):
                reasons[verdict.kind, verdict.detail] += 1
                if reasons[verdict.kind, verdict.detail] < 3:
                    print(f"  {verdict.kind} ({verdict.root:.2f} s) {told}: {verdict.detail}", flush=True)
            elif verdict.kind.startswith("different"):
                kind = verdict.kind
                print(f"  {kind} in {told}: {verdict.detail:.400}", flush=True)
                if kinds[kind] <= 4 and "too long" not in kind:
                    least = smaller(
                        replace(case, context=context),
                        lambda other, kind=kind: judged(other, tokenizer, derive).kind == kind,
                    )
                    print(f"    least: {least}\n    {judged(least, tokenizer, derive).detail:.600}", flush=True)
    print("  " + "; ".join(f"{number} {kind}" for kind, number in kinds.most_common()))
    print("  most: " + "; ".join(f"{what} {value:.2f} ({told})" for what, (value, told) in slowest.items()))
    print(f"  {time.process_time() - began:.0f} s", flush=True)
    return sum(number for kind, number in kinds.items() if kind.startswith(("different", "refused late")))


# ---------------------------------------------------------------------------------------------------------------- speed


def speed(folder: Path) -> None:
    """Large formats: milliseconds of the CPU."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = random.Random("words")
    inner = sorted({text.strip() for text in entries_of(tokenizer) if text.strip().isalpha()})
    words = {name: rng.sample(inner, min(20_000, len(inner))) for name in "abcd"}
    large = [("My PIN is {digit:6}", {}), ("My PIN is {digit:9}", {}), ("key {hex:32}", {}), ("id {alnum:20}", {})]
    large += [("card {digit:15}{luhn}", {}), ("{a} {b} {c} {d}.", words)]
    memory, began = resident(), time.process_time()
    try:
        TokenTree(CanaryFormat("a{digit:6} b"), tokenizer)
    except CanaryError as error:
        return print(f"\n{folder.name}: {error.got}")
    print(
        f"\n{folder.name}: first use of the vocabulary {time.process_time() - began:.2f} s, "
        f"{(resident() - memory) / 2**20:.0f} MB\n\n| format | tree | first descent | widest node: edges | ms "
        "| 4,000 descents | MB |\n|---|---|---|---|---|---|---|"
    )
    for template, spaces in large:
        format = CanaryFormat(template, spaces=spaces or None)
        memory, began = resident(), time.process_time()
        try:
            tree = TokenTree(format, tokenizer)
        except CanaryError as error:
            print(f"| `{template}` | refused after {time.process_time() - began:.2f} s: {error.got} ||||||")
            continue
        built, rng = time.process_time(), random.Random(1)
        descend(tree, rng)
        down = time.process_time()
        widest, state = (0, 0.0), tree.root
        while state >= 0:  # along the edge with the most below it
            before = time.process_time()
            edges = tree.edges(state)
            widest = max(widest, (len(edges.tokens), 1e3 * (time.process_time() - before)))
            state = int(edges.states[rng.randrange(len(edges.states))])
        before = time.process_time()
        for _ in range(4_000):
            descend(tree, rng)
        ended = time.process_time()
        print(
            f"| `{template}` | {1e3 * (built - began):.0f} | {1e3 * (down - built):.1f} | {widest[0]:,} "
            f"| {widest[1]:.2f} | {1e3 * (ended - before):.0f} | {(resident() - memory) / 2**20:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="tokenizers, a folder each")
    parser.add_argument("--formats", nargs="*", default=[], help="some of them, by name")
    parser.add_argument("--contexts", type=int, default=4, help="so many of the four")
    parser.add_argument("--default", action="store_true", help="trees as they are; else all are derived, of any size")
    parser.add_argument("--speed", action="store_true", help="large formats, measured")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    different = 0
    for folder in given.folders:
        if given.speed:
            speed(folder)
        else:
            different += compare(folder, given.formats, given.contexts, derive=not given.default)
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
