"""Conventions: answers that are neither number nor formula: the letter of a choice, a time of day, a ratio, words."""

from __future__ import annotations

import math
import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from llmrl.answers.notation import squeezed

LETTER = re.compile(  # A   (A)   "A:" 12 apples   Option (A) 12 apples   C - Paris
    r"""(?:"?(?:option|choice|answer):? )?"? ?(?:[\[(] ?"?([A-J])"? ?[\])]|([A-J]))"""
    r"""((?:[.:)"\]]|,(?= )| -(?= ))*)(?:[ "]+(.*))?""",
    re.IGNORECASE | re.ASCII,
)
OTHER_LETTER = re.compile(
    r"(?i:\([A-J]\)|(?<![A-Za-z])[A-J]\)|^(?:or|and)\b)|(?<![A-Za-z\\])(?:[B-HJ](?![A-Za-z])|[AI][.:)])"
)
TIME = re.compile(r'(\d{1,2})(?::([0-5]\d)(?::([0-5]\d))?)? ?"?(?:([ap])\.?m\.?)?"?', re.IGNORECASE | re.ASCII)
RATIO = re.compile(r'(\d+(?:\.\d+)?)(?: ?: ?| "?to"? )(\d+(?:\.\d+)?)(?: ?: ?(\d+(?:\.\d+)?))?', re.ASCII)
WORDS = re.compile(r"[^\W_]+(?:(?:[ ,;:/'-] ?|\. )[^\W_]+)*")
VERDICT = re.compile(r"(?:(yes|true)|(no|false))(?:[,.:;]| -| (?=\()) ?(.*)")
DOUBT = (re.compile(r"\b(?:no|false|not|or|but|maybe)\b"), re.compile(r"\b(?:yes|true|or|but|maybe)\b"))
NOTHING = {  # of which there is none, in other words
    "no solutions": "no solution",
    "there is no solution": "no solution",
    "there are no solutions": "no solution",
    "dne": "does not exist",
    "limit does not exist": "does not exist",
}


class Choice(NamedTuple):
    """The letter of a multiple choice, and the text that stands with it."""

    letter: str
    text: str


def choice(text: str) -> Choice | None:
    """The one choice that an answer names; None where it names none, or several."""
    found = LETTER.fullmatch(text)
    if found is None:
        return None
    letter, beside = str(found[1] or found[2]).upper(), (found[4] or "").strip(' "')
    if "-" in found[3] and not beside[:1].isalpha():  # C - Paris, but C - 5
        return None
    others = [one[0] for one in OTHER_LETTER.finditer(beside) if one[0].strip("(.:)").upper() != letter]
    if others or (beside and not (found[1] or found[3].strip('"') or beside[0] == "(")):
        return None
    return Choice(letter, beside)


def same_time(expected: str, answer: str) -> bool | None:
    """Whether two times of the day agree; None where one is none."""
    one, other = (TIME.fullmatch(text) for text in (expected, answer))
    if not (one and (one[2] or one[4]) and other and (other[2] or other[4])):
        return None
    if other[4] and int(other[1]) > 12:
        return False
    return since_midnight(one, one[4] or other[4]) == since_midnight(other, other[4] or one[4])


def since_midnight(time: re.Match[str], half: str | None) -> tuple[int, int, int]:
    """Hours, minutes and seconds; of up to twelve hours in the half of the day that is named, `a` or `p`."""
    hours, minutes, seconds = (int(part or 0) for part in time.group(1, 2, 3))
    if half and hours <= 12:
        hours = hours % 12 + 12 * (half.lower() == "p")
    return hours, minutes, seconds


def ratio(text: str) -> list[Fraction] | None:
    """The two or three numbers of a ratio, none of them 0."""
    found = RATIO.fullmatch(text)
    parts = [Fraction(part) for part in found.groups() if part] if found else []
    return parts if parts and all(parts) else None


def same_ratio(expected: list[Fraction], answer: list[Fraction]) -> bool:
    """Whether two ratios are equal, and the second is in lowest terms or as the first is written."""
    if len(expected) != len(answer):
        return False
    whole = all(part.denominator == 1 for part in answer) and math.gcd(*(part.numerator for part in answer)) == 1
    equal = all(one * answer[0] == other * expected[0] for one, other in zip(expected, answer, strict=True))
    return expected == answer or (whole and equal)


def same_words(expected: str, answer: str) -> bool:
    """Whether two texts are the same words, in whatever case; of a yes or no that has a reason the word before it."""
    one, other = plain_words(expected), plain_words(answer)
    reason = VERDICT.fullmatch(answer.strip(' "').lower())
    if reason and not DOUBT[bool(reason[2])].search(reason[3]) and not reason[3][:1].isdigit():
        other = reason[1] or reason[2]
    return one is not None and one == other


def plain_words(text: str) -> str | None:
    """Words in lower case, without an article; None where case may mean something: symbols, AaBb, mW."""
    text = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", squeezed(text))  # July 4th
    parts = re.findall(r"[^\W\d_]+", text)
    natural = all(part in (part.lower(), part.upper(), part.capitalize()) for part in parts)
    worded = any(len(part) > 2 or part.lower() == "no" for part in parts)
    if not (WORDS.fullmatch(text) and natural and worded and unicodedata.is_normalized("NFKC", text)):
        return None
    words = re.sub("^(?:an?|the) ", "", text.lower())
    return NOTHING.get(words, words)
