"""Canaries: which fill of which format goes into the training data, how often, and which stays out.

Draws, twins, saving and loading. Knows formats and, by name only, the transform that inserts; it knows no
tokenizer and no model.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import as_python, check_among, check_flag, check_instance, check_int, check_path, is_file_name
from .errors import ArgumentError, ArgumentTypeError, CanaryError, DataError, FormatError, counted, kind, listed, shown
from .formats.canary_format import CanaryFormat, check_format
from .runtime.atomic_files import write_json
from .runtime.json_text import read_json

if TYPE_CHECKING:
    from .injection.inject import AnyDataset

logger = logging.getLogger(__name__)

_FILE_VERSION = 2
_BEFORE_KINDS = 1  # the version of files of drawn canaries that do not say so
KINDS = ("drawn", "natural")

# A seed below can be found by trying all of them, and with it the fills.
_CAN_BE_GUESSED = 2**32
_FRESH_BITS = 128
_LEAST_SALT = 2**64  # of secrets that are somebody's
_ROUNDS = 100_000  # of the fingerprint: what one guess of a seed costs

_LONGEST_ID = 200
_TWINS = "The twins are the canaries that are inserted 0 times."


@dataclass(frozen=True)
class Canary:
    """One inserted sequence, and its twin: the fill drawn beside it and left out, as a control.

    Args:
        id: its name in logs and records, which never show the text: visible characters alone, at most 200 of them.
        format: the format that it fills.
        fill: the fill that is inserted.
        twin: another one, that is not.
        repetitions: how many copies go in, 1 or more.

    Raises:
        ArgumentError: a field that is none; it says which, and of which canary.
    """

    id: str
    format: CanaryFormat
    fill: int = field(repr=False)
    twin: int = field(repr=False)
    repetitions: int

    def __post_init__(self) -> None:
        _check_id(self.id)
        check_format(self.format)
        with _naming(f"canary {self.id}"):
            for name in ("fill", "twin"):
                object.__setattr__(self, name, self.format.checked_fill(getattr(self, name), name))
            if self.fill == self.twin:
                raise ArgumentError("twin", "another fill than the canary's", "the same", "Draw one with sample().")
            repetitions = check_int("repetitions", self.repetitions, least=1, remedy=_TWINS)
            object.__setattr__(self, "repetitions", repetitions)

    @property
    def text(self) -> str:
        """What is inserted."""
        return self.format.render(self.fill)

    @property
    def source(self) -> str | None:
        """The source side for encoder-decoder models, or None."""
        return self.format.render_source(self.fill)

    @property
    def twin_text(self) -> str:
        """What was drawn beside it and left out."""
        return self.format.render(self.twin)

    def seen_as(self, format: CanaryFormat) -> Canary:
        """The same fills under a format with the same holes and another context (Table 4).

        Raises:
            FormatError: the holes differ.

        Example:
            >>> from hf_canary import CanaryFormat, CanarySet
            >>> canary = CanarySet.draw(CanaryFormat("the PIN is {digit:4}"), per_repetition=1, seed=1)[0]
            >>> canary.seen_as(CanaryFormat("is {digit:4}")).text == canary.text.removeprefix("the PIN ")
            True
        """
        check_format(format)
        if format.holes != self.format.holes:
            raise FormatError(
                "format",
                f"the holes of {shown(self.format.template)}",
                shown(format.template),
                "Change only the text around the holes.",
            )
        return replace(self, format=format)


@dataclass(frozen=True)
class CanarySet:
    """The canaries of one training run: drawn, injected, measured, and kept in one file.

    Iterating gives the canaries, in the order in which they were drawn. Make one with `draw` or `load`.

    Args:
        canaries: in order.
        seed: what they were drawn with: whoever knows it can draw them again.
        kind: `drawn`: random fills, nobody's secrets; `natural`: secrets that stood in the data before, which are
            reported of with more care. `draw` makes the first kind.

    Raises:
        ArgumentError: what is no canary; an id, or a fill of a format, that two of them have, as where two sets are
            joined: each id is one canary's, so that none is inserted or measured as another; another kind.
    """

    canaries: tuple[Canary, ...]
    seed: int = field(repr=False)
    kind: str = "drawn"

    def __post_init__(self) -> None:
        object.__setattr__(self, "canaries", _apart(self.canaries))
        object.__setattr__(self, "seed", check_int("seed", self.seed, remedy="Give secrets.randbits(128)."))
        check_among("kind", self.kind, KINDS, "Leave it out for canaries that were drawn.")
        if self.kind != "drawn" and abs(self.seed) < _LEAST_SALT:
            raise ArgumentError(
                "seed",
                "a number that nobody guesses: it salts what is published of other people's secrets",
                "a small one",
                "Give secrets.randbits(128).",
            )

    @classmethod
    def draw(
        cls,
        formats: CanaryFormat | Sequence[CanaryFormat],
        *,
        repetitions: Sequence[int] = (1, 4, 16),
        per_repetition: int = 4,
        seed: int | None = None,
    ) -> CanarySet:
        """Formats × repetitions × per_repetition canaries, each with a twin; all fills distinct and uniform on R.

        Canary and twin are exchangeable draws, so that which of the two is inserted is a fair coin.

        Args:
            formats: one format or several different ones.
            repetitions: how many copies of a canary go in, one entry for each level.
            per_repetition: canaries of each format at each level.
            seed: makes the draw repeat; None takes a fresh unpredictable one of 128 bits, which is stored. A number
                that can be guessed (0, 1, 42, any below 2^32) draws canaries that can be guessed; the log says so
                once.

        Raises:
            ArgumentError: an argument of another type or out of range.
            FormatError: a space smaller than the draw.

        Example:
            >>> from hf_canary import CanaryFormat, CanarySet
            >>> len(CanarySet.draw(CanaryFormat("My PIN is {digit:4}"), repetitions=(1, 8), per_repetition=2, seed=0))
            4
        """
        formats = (formats,) if isinstance(formats, CanaryFormat) else formats
        _check_formats(formats)
        repetitions = _checked_levels(repetitions)
        per_repetition = check_int("per_repetition", per_repetition, least=1)
        seed = check_int("seed", seed, optional=True, remedy="Leave it out for a fresh, unpredictable draw.")
        if seed is not None and abs(seed) < _CAN_BE_GUESSED:
            _warn_of_the_seed()
        seed = secrets.randbits(_FRESH_BITS) if seed is None else seed
        drawn = []
        for number, format in enumerate(formats):
            count = len(repetitions) * per_repetition
            if 2 * count > format.space_size:
                raise FormatError(
                    "formats",
                    f"|R| of at least {shown(2 * count)}, for {shown(count)} canaries and their twins",
                    f"{shown(format.template)} with |R| = {counted(format.space_size)}",
                    "Draw fewer canaries, or give the format more or wider holes.",
                )
            fills = iter(format.sample(2 * count, f"canaries {seed:x} {number}"))
            drawn += [
                Canary(f"f{number}-x{copies}-{k}", format, next(fills), next(fills), copies)
                for copies in repetitions
                for k in range(per_repetition)
            ]
        return cls(tuple(drawn), seed)

    def __iter__(self) -> Iterator[Canary]:
        return iter(self.canaries)

    def __len__(self) -> int:
        return len(self.canaries)

    def __getitem__(self, position: int) -> Canary:
        return self.canaries[position]

    @property
    def formats(self) -> tuple[CanaryFormat, ...]:
        """The distinct formats, in order."""
        return tuple(dict.fromkeys(canary.format for canary in self.canaries))

    @property
    def repetitions(self) -> tuple[int, ...]:
        """The distinct repetition levels, ascending."""
        return tuple(sorted({canary.repetitions for canary in self.canaries}))

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the set; two sets are the same if and only if their digests are."""
        # Of drawn sets as it was before there were kinds: it says where `inject` has put the copies.
        content = self._content(_BEFORE_KINDS if self.kind == "drawn" else _FILE_VERSION)
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @functools.cached_property
    def fingerprint(self) -> str:
        """32 hex digits that tell this set from others and may stand beside weights in public.

        By it a checkpoint says which canaries it was trained with. The same set has the same, also drawn again with its
        seed. It is PBKDF2 of the digest, salted by the seed: whoever does not know the seed can try neither sets nor
        fills against it. A seed that can be guessed protects nothing: who knows the formats tries all small seeds, at
        a few dozen a second, and has the canaries.

        Example:
            >>> from hf_canary import CanaryFormat, CanarySet
            >>> one, other = (CanarySet.draw(CanaryFormat("My PIN is {digit:4}")) for _ in range(2))
            >>> len(one.fingerprint), one.fingerprint == other.fingerprint
            (32, False)
        """
        salt = hashlib.sha256(f"hf_canary fingerprint {self.seed:x}".encode()).digest()
        return hashlib.pbkdf2_hmac("sha256", self.digest.encode(), salt, _ROUNDS, dklen=16).hex()

    def inject(
        self,
        dataset: AnyDataset,
        column: str = "text",
        *,
        source_column: str | None = None,
        seed: int | None = None,
        num_rows: int | Sequence[int] | None = None,
        tokenizer: Any = None,
        make_row: Callable[[Canary], Mapping[str, Any]] | None = None,
        role: str = "assistant",
        placement: str = "rows",
        when: str | tuple[float, float] = "uniform",
    ) -> AnyDataset:
        """`dataset` with each canary inserted `repetitions` times, at uniformly random positions.

        Original rows stay unchanged and in order; the result has the same kind and the same features. The same seed
        gives the same rows, from a dataset and from a stream of it.

        What a canary's own row is depends on the column. *Strings*: the text; `source_column` gets the format's source,
        and a string column `prompt` beside `completion` gets it, or nothing, without being named. *A field of a
        translation* (`column="translation.de", source_column="translation.en"`): the text goes into the one, the source
        into the other. *A chat* (`messages`, or `conversations` with `from` and `value`, of structs or JSON): the user
        says the source, or nothing, and the assistant the text; with another `role`, that one says the text and the
        assistant "OK.".
        *Token ids* (`input_ids`, with `tokenizer`): those of the text, with `labels`, `attention_mask` and
        `token_type_ids` where there are such columns. Every other column is None.

        Args:
            dataset: a `Dataset` or an `IterableDataset`; of a dict of them, the train split alone changes. Inject into
                a stream before you shuffle it.
            column: where the canary goes.
            source_column: where the source of the format goes, for encoder-decoders.
            seed: draws the positions; None derives them from the digest of the set.
            num_rows: rows of a stream, which cannot be asked for it; with several shards, a list with the rows of each,
                or their sum if they are about alike: what is placed behind a shard's end then stands at its end.
            tokenizer: makes the tokens of rows that are tokens; beside a chat, its template is tried on the canaries.
            make_row: canary → row, for rows of any other kind.
            role: who says the canary in a chat.
            placement: `rows` of their own, or `splice`: into rows that are there, before a sentence or a line, else
                before a word, with a space behind.
            when: in which part of the dataset, for training that reads it in order: `uniform`, `early` (the first
                tenth), `late` (the last), or two shares, such as `(0.4, 0.5)`.

        Raises:
            DataError: an empty dataset, a missing column, one of a kind that needs `make_row`, a set that was injected
                already; from a stream, as it is read, one that ends before all are placed.

        Example:
            >>> from datasets import Dataset
            >>> from hf_canary import CanaryFormat, CanarySet
            >>> pin = CanaryFormat("My PIN is {digit:4}")
            >>> canaries = CanarySet.draw(pin, repetitions=(3,), per_repetition=1, seed=0)
            >>> train = canaries.inject(Dataset.from_dict({"text": ["a", "b", "c"]}))
            >>> list(train["text"]).count(canaries[0].text), len(train)
            (3, 6)
        """
        # Here, because it brings in `datasets`, which a set of canaries does not need.
        from .injection.inject import inject
        from .injection.options import InsertionOptions

        options = InsertionOptions(
            column=column,
            source_column=source_column,
            seed=seed,
            tokenizer=tokenizer,
            make_row=make_row,
            role=role,
            placement=placement,
            when=when,
        )
        return inject(self, dataset, options, num_rows)

    def remove(
        self,
        dataset: AnyDataset,
        column: str = "text",
        *,
        num_rows: int | Sequence[int] | None = None,
        **how: Any,
    ) -> AnyDataset:
        """The exact inverse of `inject`: the dataset without the canaries, all other rows as they were.

        Args:
            dataset: as `inject` returned it, or loaded from where that was saved; its rows in the same order.
            column: as it was given to `inject`.
            num_rows: rows of a stream before it was injected, as they were given to `inject`.
            how: the other arguments, as they were given to `inject`.

        Raises:
            DataError: the canaries are not where `inject` put them.

        Example:
            >>> from datasets import Dataset
            >>> from hf_canary import CanaryFormat, CanarySet
            >>> canaries = CanarySet.draw(CanaryFormat("My PIN is {digit:4}"), seed=0)
            >>> train = Dataset.from_dict({"text": ["a", "b", "c"]})
            >>> canaries.remove(canaries.inject(train)).to_list() == train.to_list()
            True
        """
        from .injection.inject import remove
        from .injection.options import InsertionOptions

        return remove(self, dataset, InsertionOptions.of(column, how), num_rows)

    def count_in(self, dataset: Any, column: str = "text", **how: Any) -> dict[str, int]:
        """How often the text of each canary stands in a dataset, by its id; reads it once, by the batch.

        Args:
            dataset: a `Dataset` or an `IterableDataset`.
            column: the column to look in; in chats all that is said is looked at, in token ids nothing is found.
            how: what `inject` needs to know of the column.

        Example:
            >>> from datasets import Dataset
            >>> from hf_canary import CanaryFormat, CanarySet
            >>> pin = CanaryFormat("My PIN is {digit:4}")
            >>> canaries = CanarySet.draw(pin, repetitions=(2,), per_repetition=1, seed=0)
            >>> canaries.count_in(canaries.inject(Dataset.from_dict({"text": ["a", "b", "c"]})))
            {'f0-x2-0': 2}
        """
        from .injection.inject import count_in
        from .injection.options import InsertionOptions

        how.pop("num_rows", None)  # of a stream: to count, it need not be known
        return count_in(self, dataset, InsertionOptions.of(column, how))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the set as JSON, with a version and a digest. The file holds every text: keep it private.

        None but its owner may read it, from its first byte on.

        Args:
            path: the file. It may be there if it holds this very set.
            overwrite: whether it may also be there with anything else, which is lost then.

        Raises:
            DataError: the file holds another set, perhaps the one that a model was trained with, or is no canaries
                file.
        """
        path = check_path("path", path)
        if not is_file_name(path) or path.is_dir():
            got = "a folder" if is_file_name(path) else "a name that no file can have"
            raise DataError(shown(str(path)), "the path of a file", got, "Name a file.")
        if not check_flag("overwrite", overwrite) and os.path.exists(path):
            self._check_same(path)
        write_json(path, self._content() | {"digest": self.digest}, private=True)

    def _check_same(self, path: str | Path) -> None:
        """Refuse to take the place of what is not this set."""
        try:
            got = "" if CanarySet.load(path).digest == self.digest else "another set of canaries"
        except DataError as error:
            got = f"a file that cannot be read as one ({error.got})"
        if got:
            raise DataError(
                str(path),
                "no file yet, or one of this very set",
                got,
                "Go on with what is there: CanarySet.load(path). Or name another file; overwrite=True replaces it for "
                "good.",
            )

    @classmethod
    def load(cls, path: str | Path) -> CanarySet:
        """The set that `save` wrote.

        Raises:
            DataError: no such file, a torn or edited one, or one of another version. Of a field that is none it says
                which, and of which canary.
        """
        document = _read_document(check_path("path", path))
        try:
            loaded = cls._from_content(document)
        except CanaryError as error:
            raise _edited(path, f"{error.argument}: expected {error.expected}; got {error.got}") from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise _edited(path, "what it holds is another thing") from error
        expected = loaded._content(document["version"]) | {"digest": loaded.digest}
        if json.dumps(expected, sort_keys=True) != json.dumps(document, sort_keys=True):
            raise _edited(path, "its content does not match its digest")
        return loaded

    def _content(self, version: int = _FILE_VERSION) -> dict[str, Any]:
        formats = self.formats
        return {
            "version": version,
            **({"kind": self.kind} if version != _BEFORE_KINDS else {}),
            "seed": hex(self.seed),
            "formats": [
                {
                    "template": format.template,
                    "source": format.source,
                    "spaces": {name: list(entries) for name, entries in (format.spaces or {}).items()},
                }
                for format in formats
            ],
            "canaries": [
                {
                    "id": canary.id,
                    "format": formats.index(canary.format),
                    "fill": hex(canary.fill),
                    "twin": hex(canary.twin),
                    "repetitions": canary.repetitions,
                    "text": canary.text,
                }
                for canary in self.canaries
            ],
        }

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> CanarySet:
        formats = [
            CanaryFormat(entry["template"], source=entry["source"], spaces=entry["spaces"] or None)
            for entry in content["formats"]
        ]
        canaries = [_canary_of(number, entry, formats) for number, entry in enumerate(content["canaries"])]
        return cls(tuple(canaries), _of_hex("seed", content["seed"]), content.get("kind", "drawn"))


@functools.cache
def _warn_of_the_seed() -> None:
    """Once in a process."""
    logger.warning(
        "Canaries are drawn with a seed below 2^32: whoever guesses it knows them. Leave seed= out for a fresh one, "
        "which the set keeps; CanarySet.load gives the same canaries again."
    )


def _check_id(name: object) -> None:
    """Refuse what could not name a canary in a log line: it is shown as it is."""
    expected = f"a text of 1 to {_LONGEST_ID} visible characters"
    check_instance("id", name, str, expected, "Name it as draw() does, f0-x1-0.")
    if not 0 < len(str(name)) <= _LONGEST_ID or not str(name).isprintable():
        raise ArgumentError("id", expected, shown(name), "Name it as draw() does, f0-x1-0.")


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Says of an error which canary it is of."""
    try:
        yield
    except CanaryError as error:
        raise type(error)(error.argument, error.expected, f"{error.got}, in {what}", error.remedy) from error


def _apart(canaries: Iterable[Canary]) -> tuple[Canary, ...]:
    """Canaries of which no two are one, by id or by fill."""
    expected, remedy = "a list of canaries", "Draw or load a set: CanarySet.draw(...), CanarySet.load(...)."
    check_instance("canaries", canaries, Iterable, expected, remedy)
    canaries = tuple(canaries)
    for canary in canaries:
        check_instance("canaries", canary, Canary, expected, remedy)
    by_id = Counter(canary.id for canary in canaries)
    by_fill = Counter((canary.format, fill) for canary in canaries for fill in (canary.fill, canary.twin))
    for what, twice in (
        ("an id", [name for name, count in by_id.items() if count > 1]),
        ("a fill", [c.id for c in canaries if by_fill[c.format, c.fill] > 1 or by_fill[c.format, c.twin] > 1]),
    ):
        if twice:
            raise ArgumentError(
                "canaries",
                f"{what} for each canary alone",
                f"one that several have: {listed(twice)}",
                "Draw them together, CanarySet.draw([one_format, another]); two sets stay two, each with its own "
                "inject and its own measurement.",
            )
    return canaries


def _canary_of(number: int, entry: Mapping[str, Any], formats: Sequence[CanaryFormat]) -> Canary:
    """One entry of a file."""
    with _naming(f"entry {number} of the canaries"):
        which = check_int("format", entry["format"], least=0, most=len(formats) - 1)
        fill, twin = _of_hex("fill", entry["fill"]), _of_hex("twin", entry["twin"])
        return Canary(entry["id"], formats[which], fill, twin, entry["repetitions"])


def _of_hex(name: str, text: object) -> int:
    expected, remedy = "a hexadecimal number as text", "Restore the file."
    check_instance(name, text, str, expected, remedy)
    try:
        return int(str(text), 16)
    except ValueError:
        raise ArgumentError(name, expected, "another text", remedy) from None


def _edited(path: str | Path, how: str) -> DataError:
    return DataError(
        str(path),
        "a canaries file as CanarySet.save wrote it",
        f"an edited file: {how}",
        "Restore the file; to change the canaries, draw and save a new set.",
    )


def _check_formats(formats: Sequence[CanaryFormat]) -> None:
    given = formats if isinstance(formats, Sequence) else ()
    if not given or not all(isinstance(format, CanaryFormat) for format in given):
        raise ArgumentTypeError("formats", "a CanaryFormat or a list of them", kind(formats), "Wrap the text.")
    if len(set(formats)) < len(formats):
        raise ArgumentError("formats", "different formats", "one format twice", "Raise per_repetition instead.")


def _checked_levels(repetitions: Sequence[int]) -> list[int]:
    """How many copies the canaries of each level have, as Python's numbers."""
    given = as_python(repetitions)
    check_instance("repetitions", given, Sequence, "a list of whole numbers", "Put one alone into a list.")
    levels = [check_int("repetitions", count, least=1, remedy=_TWINS) for count in given]
    if not levels:
        raise ArgumentError("repetitions", "one level at least", "none", "The twins are inserted 0 times already.")
    if len(set(levels)) < len(levels):
        raise ArgumentError("repetitions", "distinct levels", shown(levels), "Raise per_repetition instead.")
    return levels


def _read_document(path: str | Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = read_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            str(path), "a canaries file", str(error.strerror), "Give the path that was saved to."
        ) from error
    except ValueError as error:
        raise DataError(
            str(path),
            "a canaries file as CanarySet.save wrote it",
            f"text that is no JSON ({error})",
            "The file is torn or is another one: restore it, or draw and save a new set.",
        ) from error
    if not isinstance(document, dict) or "version" not in document:
        raise DataError(
            str(path),
            "a canaries file as CanarySet.save wrote it",
            "JSON of something else",
            "Give the path that was saved to.",
        )
    version = document["version"]
    if type(version) is not int or version not in (_BEFORE_KINDS, _FILE_VERSION):
        raise DataError(
            str(path),
            f"a canaries file of version {_BEFORE_KINDS} or {_FILE_VERSION}",
            f"version {shown(version)}",
            "Load it with the release of hf_canary that wrote it, or draw and save a new set.",
        )
    return document
