"""Held-out prompts in training texts: which of them stand there, whole or for the most part.

Words are compared, not bytes. A text is brought to NFKC and lower case, and cut into runs of letters, marks and digits;
a CJK character, an emoji and a sign of arithmetic are words of their own. Punctuation and spaces part words and count
for nothing; but of `- * / ^`, which are both, one before a digit is a sign, so that 3 - 4 and 3 / 4 are two problems.
Scripts without spaces other than CJK (Thai, Khmer, …) are cut at punctuation only, so their texts match as wholes.

An n-gram is N words in a row. As in Tülu 3 (https://arxiv.org/abs/2411.15124), a held-out prompt counts as found where
over half of its words stand in n-grams that one training text has; here the text must have its numbers too, in their
order, as problems of one kind share their words. N-grams of more than COMMON different held-out prompts are common
phrases, whose words count for nothing, in the spirit of GPT-3 (https://arxiv.org/abs/2005.14165, appendix C). A prompt
of fewer than N words matches as a whole only, one without words never.

Nearly no text matches, so texts are hashed many at a time and only what has the hashes is compared, word by word. The
index takes about 20 bytes a word of the held-out prompts, 35 while it is made, the hashing 10 MB, or 65 bytes a
character of one text that is longer than PIECE; nothing grows with the number of training texts.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

N = 8  # words
COMMON = 10  # prompts
PIECE = 1 << 16  # characters hashed at a time: more do not fit the cache of a processor, and take longer
EXAMPLES = 5

Texts: TypeAlias = Iterable[str] | pa.Array | pa.ChunkedArray

# What a character is to words: nothing of them (0), or
RUN, DIGIT, ALONE, SIGN = 1, 2, 4, 8  # part of a run, a digit too; a word of its own; one before a digit
SIGNS = "-*/^"
KINDS = {"L": RUN, "M": RUN, "N": RUN, "Nd": RUN | DIGIT, "Sm": ALONE, "So": ALONE, "Cn": RUN, "Co": RUN}
# Han, kana and bopomofo, without their punctuation; Korean parts words by spaces.
CJK = ((0x3005, 0x3007), (0x3041, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))

ASSIGNED = ((0, 0x20000), (0xE0000, 0xE0200))  # but for CJK
BASE = 0x9E3779B97F4A7C15  # of the polynomials; odd, and so invertible modulo 2**64
MIX = np.uint64(0xD6E8FEB86659FD93)


@cache
def kinds() -> np.ndarray:
    """The kind of each Unicode character, by its number."""
    table = np.full(0x110000, RUN, np.uint8)  # most are not assigned, or private
    for first, last in ASSIGNED:
        categories = map(unicodedata.category, map(chr, range(first, last)))
        table[first:last] = [KINDS.get(one, KINDS.get(one[0], 0)) for one in categories]
    for first, last in CJK:
        part = table[first : last + 1]
        part[part != 0] = ALONE
    table[[ord(character) for character in "|~"]] = 0  # more often of a table or of Markdown than of arithmetic
    table[[ord(character) for character in SIGNS]] = SIGN
    return table


@lru_cache(maxsize=2)
def powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE to the powers 0, 1, … and 0, -1, …, modulo 2**64."""
    bases = np.full((2, size), [[BASE], [pow(BASE, -1, 1 << 64)]], np.uint64)
    bases[:, 0] = 1
    upward, downward = np.cumprod(bases, axis=1)
    return upward, downward


def hashed(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A hash of 64 bits for each span of values: the same for the same values, wherever they stand."""
    upward, downward = powers(-(-(len(values) + 1) // PIECE) * PIECE)
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * upward[: len(values)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * downward[starts] * MIX
    return hashes ^ (hashes >> np.uint64(32))  # not linear, so that letters of two words do not change places unseen


class Cut:
    """Texts, cut into words. Raises UnicodeEncodeError where one has half a Unicode character."""

    def __init__(self, texts: Sequence[str]) -> None:
        plain = [unicodedata.normalize("NFKC", text).lower() for text in texts]
        self.text = "\n" + "\n\n".join(plain) + "\n\n"  # two, so that no sign is before the next text's digit
        self.characters = np.frombuffer(self.text.encode("utf-32-le"), np.uint32)
        kind = kinds().take(self.characters)  # twice as fast as [] here
        signs = np.flatnonzero(kind == SIGN)
        after, second = kind[signs + 1], kind[signs + 2]
        kind[signs] = np.where((after & DIGIT) | (second & DIGIT) * (after == 0), ALONE, 0)
        run, alone = (kind & RUN).view(bool), kind == ALONE
        edges = run[1:] != run[:-1]
        self.starts = np.flatnonzero(edges & run[1:] | alone[1:]) + 1  # of words, in characters
        self.ends = np.flatnonzero(edges & run[:-1] | alone[:-1]) + 1
        lengths = np.fromiter(map(len, plain), np.int64, len(plain))
        bounds = np.searchsorted(self.starts, np.cumsum(lengths + 2))
        self.firsts, self.lasts = np.concatenate([[0], bounds[:-1]]), bounds  # words of each text

    def __len__(self) -> int:
        """How many texts."""
        return len(self.firsts)

    def words(self, number: int) -> list[str]:
        """The words of one text."""
        span = slice(self.firsts[number], self.lasts[number])
        return [self.text[start:end] for start, end in zip(self.starts[span], self.ends[span], strict=True)]

    def hashes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The hash of each text, the text of each n-gram, and the n-gram's hash."""
        words = hashed(self.characters, self.starts, self.ends)
        counts = self.lasts - self.firsts
        last = np.repeat(self.lasts, counts)  # of the text of each word
        starts = np.flatnonzero(np.arange(N, len(words) + N) <= last)
        texts = np.repeat(np.arange(len(counts)), np.maximum(counts - N + 1, 0))
        return hashed(words, self.firsts, self.lasts), texts, hashed(words, starts, starts + N)


def pieces_of(texts: Texts) -> Iterator[Cut]:
    """The texts, cut into words, about PIECE characters at a time."""
    piece: list[str] = []
    size = 0
    for text in texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else texts:
        piece.append(text)
        size += len(text)
        if size >= PIECE:
            yield Cut(piece)
            piece, size = [], 0
    if piece:
        yield Cut(piece)


def words_of(text: str) -> list[str]:
    """The words of a text.

    >>> words_of("What's 3-4? 你好!")
    ['what', 's', '3', '-', '4', '你', '好']
    """
    return Cut([text]).words(0)


def normalised(text: str) -> str:
    """The words, a space between them: equal for texts that differ in case, spaces and punctuation alone.

    >>> normalised("  Don't PANIC!")
    'don t panic'
    """
    return " ".join(words_of(text))


def grams(words: list[str]) -> list[str]:
    """The n-grams, in order."""
    return [" ".join(words[start : start + N]) for start in range(len(words) - N + 1)]


def mostly(words: list[str], shared: set[str], common: set[str]) -> bool:
    """Whether over half of the words that stand in no common n-gram stand in shared ones."""
    inside, phrases = (
        {start + step for start, gram in enumerate(grams(words)) if gram in some for step in range(N)}
        for some in (shared, common)
    )
    return 2 * len(inside - phrases) > len(words) - len(phrases)


def holds(text: list[str], prompt: list[str], shared: set[str], common: set[str]) -> bool:
    """Whether a text has most of a prompt, and its numbers in their order."""
    there = iter(figures(text))
    return mostly(prompt, shared, common) and all(number in there for number in figures(prompt))


def figures(words: list[str]) -> list[str]:
    """The words that have a digit, and the signs of arithmetic."""
    signs = [word in SIGNS or unicodedata.category(word[0]) == "Sm" for word in words]
    return [word for word, sign in zip(words, signs, strict=True) if sign or any(map(str.isdecimal, word))]


class Index:
    """Finds hashes again, in 10 to 12 bytes each: sorted, with its number in the last bits of each in their place."""

    def __init__(self, hashes: np.ndarray) -> None:
        self.bits = np.uint64(len(hashes).bit_length())  # of a number
        self.last = (np.uint64(1) << self.bits) - np.uint64(1)
        # Which first bits there are, a bit each: a look here spares nearly all hashes the search.
        num_bits = max(3, (16 * len(hashes)).bit_length())
        self.shift = np.uint64(64 - num_bits)
        self.beginnings = np.zeros(1 << num_bits - 3, np.uint8)
        self.sorted = np.arange(len(hashes), dtype=np.uint64)
        for start in range(0, len(hashes), PIECE):  # piece by piece, as all at once take three times the memory
            some = hashes[start : start + PIECE]
            self.sorted[start : start + PIECE] |= some & ~self.last
            beginnings = some >> self.shift
            bits = np.uint8(1) << (beginnings & np.uint64(7)).astype(np.uint8)
            np.bitwise_or.at(self.beginnings, beginnings >> np.uint64(3), bits)
        self.sorted.sort()

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The places of those hashes that are there, and where each of them begins in `sorted`."""
        beginnings = hashes >> self.shift
        bits = self.beginnings[beginnings >> np.uint64(3)] >> (beginnings & np.uint64(7)).astype(np.uint8)
        maybe = np.flatnonzero(bits & 1)
        wanted = hashes[maybe] & ~self.last
        starts = np.searchsorted(self.sorted, wanted)
        hits = self.sorted.take(starts, mode="clip") & ~self.last == wanted
        return maybe[hits], starts[hits]

    def numbers(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many have the hash that begins there, and the numbers of all of them, one after another."""
        counts = np.searchsorted(self.sorted, self.sorted[starts] | self.last, "right") - starts
        entries = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        return counts, (self.sorted[entries] & self.last).astype(np.int64)

    def repeated(self, times: int) -> np.ndarray:
        """Where the hashes begin that stand there more than so many times."""
        starts = [np.zeros(0, np.int64)]
        for start in range(0, len(self.sorted) - times, PIECE):
            some = self.sorted[start : start + PIECE + times]
            found = some[times:][(some[times:] ^ some[:-times]) <= self.last]
            starts.append(np.searchsorted(self.sorted, found & ~self.last))
        return np.unique(np.concatenate(starts))

    def drop(self, numbers: np.ndarray) -> None:
        """Find these no longer."""
        if len(numbers):
            gone = np.zeros(int(self.last) + 1, bool)
            gone[numbers] = True
            self.sorted = self.sorted[~gone[self.sorted & self.last]]


@dataclass(slots=True)
class Prompt:
    """One held-out prompt, and all others that have the same words."""

    words: str  # a space between them
    number: int  # of the first of them, among all held-out prompts
    copies: int = 0
    exact: bool = False
    shared: bool = False


class Example(NamedTuple):
    """A held-out prompt and a training text that it stands in, each by its number in the order they were given."""

    prompt: int
    text: int


class HeldOut:
    """An index of held-out prompts, in which training texts are looked up; `examples` are the first that were found."""

    def __init__(self, prompts: Texts) -> None:
        self.examples: list[Example] = []
        self.num_prompts = self.num_texts = 0  # held out, looked up
        found: dict[str, Prompt] = {}  # by their words
        wholes, hashes = array("Q"), array("Q")  # of the different prompts, and their n-grams
        firsts = array("q")  # n-grams of each
        for piece in pieces_of(prompts):
            whole, texts, grams_ = piece.hashes()
            new = np.zeros(len(piece), bool)
            counts = np.bincount(texts, minlength=len(piece))
            for text in range(len(piece)):
                if words := " ".join(piece.words(text)):
                    if words not in found:
                        new[text] = True
                        found[words] = Prompt(words, self.num_prompts)
                    found[words].copies += 1
                self.num_prompts += 1
            firsts.frombytes((len(hashes) + np.cumsum(counts * new) - counts)[new].tobytes())
            wholes.frombytes(whole[new].tobytes())
            hashes.frombytes(grams_[new[texts]].tobytes())
        self.different = [*found.values()]
        del found  # before the sorting, which takes memory
        self.lengths = np.array([prompt.words.count(" ") + 1 for prompt in self.different], np.int64)
        self.firsts = np.frombuffer(firsts, np.int64)
        self.wholes = Index(np.frombuffer(wholes, np.uint64))
        self.index = Index(np.frombuffer(hashes, np.uint64))
        self._set_common_apart(np.frombuffer(hashes, np.uint64))

    def _owners(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The prompts of n-grams, and how many others precede each there."""
        owners = np.searchsorted(self.firsts, numbers, "right") - 1
        return owners, numbers - self.firsts[owners]

    def _set_common_apart(self, hashes: np.ndarray) -> None:
        """Keep the words of the common n-grams, and find these no longer."""
        _, numbers = self.index.numbers(self.index.repeated(COMMON))
        numbers = np.sort(numbers)
        numbers = numbers[np.argsort(hashes[numbers], kind="stable")]  # the n-grams of one prompt stay together
        hashes, (owners, places) = hashes[numbers], self._owners(numbers)
        first = np.diff(hashes, prepend=~hashes[:1]) != 0  # of the same n-grams
        another = first | (np.diff(owners, prepend=-1) != 0)  # prompt that has it
        group = np.cumsum(first) - 1
        common = np.bincount(group, another)[group] > COMMON
        self.common = {
            grams(self.different[owner].words.split(" "))[place]
            for owner, place in zip(owners[common & first], places[common & first], strict=True)
        }
        self.index.drop(numbers[common])
        # Words of common phrases are no prompt's own: "Solve the following problem. …" in a thousand prompts.
        order = np.lexsort((places[common], owners[common]))
        owners, places = owners[common][order], places[common][order]
        last = np.diff(owners, append=-1) != 0
        covered = np.where(last, N, np.minimum(np.diff(places, append=0), N))
        np.subtract.at(self.lengths, owners, covered)

    def _likely(self, piece: Cut) -> Iterator[tuple[int, list[str], list[Prompt]]]:
        """What by the hashes holds held-out prompts: the text's number in the piece, its words, and the prompts."""
        found: dict[int, list[Prompt]] = defaultdict(list)
        wholes, texts, hashes = piece.hashes()
        places, starts = self.wholes.find(wholes)
        counts, numbers = self.wholes.numbers(starts)
        for text, number in zip(np.repeat(places, counts).tolist(), numbers, strict=True):
            if self.different[number].words == " ".join(piece.words(text)):
                found[text].append(self.different[number])
        for text, owner in zip(*self._over_half(texts, hashes), strict=True):
            found[text].append(self.different[owner])
        for text in sorted(found):
            yield text, piece.words(text), found[text]

    def _over_half(self, texts: np.ndarray, hashes: np.ndarray) -> tuple[list[int], list[int]]:
        """The pairs of a text and a prompt of which over half of the words stand in n-grams with the text's hashes."""
        hits, starts = self.index.find(hashes)
        if not len(hits):
            return [], []
        # Each n-gram of a text once: where text and prompt repeat themselves, all pairs would be very many.
        texts, starts = np.unique([texts[hits], starts], axis=1)
        counts, numbers = self.index.numbers(starts)
        owners, places = self._owners(numbers)
        pairs = np.repeat(texts, counts) * len(self.different) + owners
        order = np.lexsort((places, pairs))
        pairs, places = pairs[order], places[order]
        first = np.flatnonzero(np.diff(pairs, prepend=-1))
        covered = np.minimum(np.diff(places, append=0), N)  # words of each n-gram before the next one begins
        covered[np.append(first[1:], len(pairs)) - 1] = N
        texts, owners = np.divmod(pairs[first], len(self.different))
        enough = 2 * np.add.reduceat(covered, first) > self.lengths[owners]
        return texts[enough].tolist(), owners[enough].tolist()

    def near(self, prompts: Texts) -> np.ndarray:
        """Whether each training prompt is a held-out one, or nearly: an array of bool.

        It is where the words are the same. It is nearly where over half of the words of either stand in n-grams of the
        other, and the numbers and signs of arithmetic are the same: with another number it is another problem.
        """
        results = [np.zeros(0, bool)]
        for piece in pieces_of(prompts):
            results.append(np.zeros(len(piece), bool))
            for text, words, candidates in self._likely(piece):
                results[-1][text] = any(self._alike(words, prompt.words.split(" ")) for prompt in candidates)
        return np.concatenate(results)

    def _alike(self, one: list[str], other: list[str]) -> bool:
        shared = {*grams(one)} & {*grams(other)} - self.common
        return one == other or (
            mostly(one, shared, self.common) and mostly(other, shared, self.common) and figures(one) == figures(other)
        )

    def look_up(self, texts: Texts) -> None:
        """Count the held-out prompts that stand in these training texts; called for one batch of them after another."""
        if not self.different:
            return
        for piece in pieces_of(texts):
            for text, words, candidates in self._likely(piece):
                shared = {*grams(words)} - self.common
                for prompt in candidates:
                    prompt.exact |= prompt.words == " ".join(words)
                    if not prompt.shared and (
                        prompt.exact or holds(words, prompt.words.split(" "), shared, self.common)
                    ):
                        prompt.shared = True
                        if len(self.examples) < EXAMPLES:
                            self.examples.append(Example(prompt.number, self.num_texts + text))
            self.num_texts += len(piece)

    @property
    def exact(self) -> int:
        """Held-out prompts that one training text is, word for word."""
        return sum(prompt.copies for prompt in self.different if prompt.exact)

    @property
    def shared(self) -> int:
        """Held-out prompts of which one training text has the most, as the module says; the exact ones, too."""
        return sum(prompt.copies for prompt in self.different if prompt.shared)
