r"""Finding the final answer in a text: what a completion says in the end, and what a solution of the data asks for.

    boxed    \boxed{72}, \fbox{72}, \boxed72     Minerva's, https://arxiv.org/abs/2206.14858, appendix D
    hash     #### 72, to the end of the line      GSM8K's, https://arxiv.org/abs/2110.14168
    tag      <answer>72</answer>                  DeepSeek-R1's, https://arxiv.org/abs/2501.12948, table 1
    phrase   The answer is 72. **Answer:** 72     to the end of the sentence, or of the line

docs/answers.md is the protocol in words. Every search takes time in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

Kind = Literal["boxed", "hash", "tag", "phrase"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_CHARACTERS = 300  # of an answer, which bounds the work of comparing two

PLAIN_BOX = re.compile(r"\\boxed\{([^\\{}]*)\}")
BOX = re.compile(r"\\{1,2}(?:boxed|fbox)(?![A-Za-z])\s*(?:(\{)|([+-]?[\d.,]*\d|[A-Za-z]))?|\\.|[{}]", re.DOTALL)
HASH = re.compile(r"(?<![#&\w])####(?!#)([^\n]*)")
WORD = re.compile(r"[\s*_]*[^\W\d_]{2}")
TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
# "The correct answer to this is therefore", "**Final Answer:**", "The best option is"; a heading "### Answer".
OF_ITS_OWN = "".join(f"(?<!{word} )" for word in ("this", "that", "these", "other", "each", "every", "any", "an"))
PHRASE = re.compile(
    rf"(?:(?<![A-Za-z]){OF_ITS_OWN}ans(?:wers?)?(?![A-Za-z])|(?:correct|right|best) (?:option|choice))"
    r"(?: (?:to|of|for) [^.\n]{0,80}?)?[*_]{0,3}\s{0,3}"
    r"(?:(?<![A-Za-z])(?:is|are|(?:would|must|should|will) be)\b|[:=])[:*_]{0,4}"
    r"(?: (?:therefore|thus|simply|exactly|indeed|clearly|just|approximately|equal to|given by|letter)\b){0,2}"
    r"\s*(?:\\[\[(]\s*)?|^[#*_ ]{1,9}(?:final )?answer[*_ ]{0,3}\n\s*",
    re.IGNORECASE | re.MULTILINE,
)
# Not of an abbreviation (12 ft. 6 in.), nor of what goes on (0.333...).
SENTENCE = re.compile(r"(?<!\.)[.?]\$?(?=\s+[^\sa-z\d]|\s*$|[*_<])|(?<=\.\.\.)(?=\s+[A-Z])|。|\n")
REASON = re.compile(r",? \(?(?:which|since|because)\b|, so\b| \((?:= |i\.e\.)", re.IGNORECASE)
HEDGE = re.compile(r"\b(?:or|may|might|could|maybe|perhaps|possibly|either)\b", re.IGNORECASE)
VAGUE = {"above", "below", "clear", "correct", "false", "incorrect", "obvious", "right", "simple", "true", "wrong"}
PLAIN = re.compile(r"[$€£]?-?\d[\d.,]*%?|\(?[A-J]\)?")
VERDICTS = {"yes", "no", "true", "false"}
CHOSEN = re.compile(r"\(?(?:(?:option|choice) )?\(?[A-J]\b\)?", re.IGNORECASE)
INTRODUCED = re.compile(r"(?:the )?(?:final |correct )?answer(?: is|:| =)[:\s]*(?=\S)", re.IGNORECASE)
TRAILING = re.compile(r"(?:\s*(?:</?\w+>|<\|[^|<>]*\|>))+$")  # tags and tokens that end a turn
EMPTY = re.compile(r"\\(?:text|math|display|mbox|hbox|phantom)[a-z]*")  # shows nothing by itself
CLOSING = " \t\n.$\\])*}"  # of a formula or a sentence
GROUPED_NUMBER = re.compile(r"-?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", re.ASCII)


class Mark(NamedTuple):
    """One marked answer, None where it is not closed, and where the mark begins and ends in the text."""

    answer: str | None
    start: int
    end: int


def boxes(text: str) -> Iterator[Mark]:
    """Those that lie in no other, in order, each that is never closed at its beginning."""
    if "box" not in text:
        return
    if text.count("box") == 1 and (only := PLAIN_BOX.search(text)):  # nearly always, and ten times as fast
        yield Mark(signed(only[1], text, only.start()), *only.span())
        return
    waiting: list[tuple[int, int] | None] = []  # of each open brace that begins a box where it and its content begin
    found: list[Mark] = []
    for one in BOX.finditer(text):
        if one[1]:
            waiting.append((one.start(), one.end()))
        elif one[2]:
            found.append(Mark(one[2], *one.span()))
        elif one[0] == "{":
            waiting.append(None)
        elif one[0] == "}" and waiting and (box := waiting.pop()):
            while found and found[-1].start > box[0]:
                found.pop()
            found.append(Mark(signed(text[box[1] : one.start()], text, box[0]), box[0], one.end()))
    found += [Mark(None, *box) for box in waiting if box]
    yield from sorted(found, key=lambda mark: mark.start)


def signed(answer: str, text: str, start: int) -> str:
    r"""With the sign that stands before its box: -\boxed{72}."""
    return f"-{answer}" if text[start - 1 : start] in ("-", "−") else answer


def hashes(text: str) -> Iterator[Mark]:
    """A heading of Markdown is none: it begins with a word, and there is more below it."""
    content = len(text.rstrip())
    for one in HASH.finditer(text):
        if one.end() >= content or not WORD.match(one[1]) or INTRODUCED.match(one[1].strip(" *")):
            yield Mark(one[1].strip(), *one.span())


def tags(text: str) -> Iterator[Mark]:
    opened = None
    for one in TAG.finditer(text):
        if not one[1]:
            if opened is not None:  # never closed: what it says counts against the next
                yield Mark(text[opened[1] : one.start()], opened[0], one.start())
            opened = one.span()
        elif opened is not None:
            yield Mark(text[opened[1] : one.start()], opened[0], one.end())
            opened = None
    if opened is not None:
        yield Mark(None, *opened)


def phrases(text: str) -> Iterator[Mark]:
    for one in PHRASE.finditer(text):
        limit = one.end() + MAX_CHARACTERS + 1
        stop = SENTENCE.search(text, one.end(), limit)
        if stop is None and limit < len(text):
            yield Mark(None, one.start(), limit)  # too long for an answer
            continue
        start, end = stop.span() if stop else (len(text), len(text))
        said = text[one.end() : start].strip(" *_")
        if (reason := REASON.search(said)) and not HEDGE.search(said, reason.start()):
            said = said[: reason.start()].strip(" *_")
        if stop and stop[0].endswith("$"):
            said = said.removeprefix("$")
        doubted = stop is not None and stop[0].startswith("?")
        yield Mark(None if doubted else said if "$" in said else said.rstrip("!"), one.start(), end)


MARKS = {"boxed": boxes, "hash": hashes, "tag": tags, "phrase": phrases}


def marks_in(text: str, marks: Sequence[str] = KINDS) -> tuple[str, list[Mark]]:
    r"""The first of some kinds of which a text has any mark, and these marks.

    >>> marks_in("#### 71\n#### 72", ["boxed", "hash"])
    ('hash', [Mark(answer='71', start=0, end=7), Mark(answer='72', start=8, end=15)])
    """
    for kind in marks:
        if found := list(MARKS[kind](text)):
            return kind, found
    return "", []


def final(text: str, marks: Sequence[str] = KINDS) -> str | None:
    r"""The final answer of a text, as it is marked: by the first of the kinds that it has, the last mark counting. None
    where there is none, or the last one is not closed. The sources of the marks stand at the head of this file.

    >>> final(r"so \boxed{\frac{1}{2}}."), final("The answer is **72**."), final("The answer is 72.", ["boxed"])
    ('\\frac{1}{2}', '72', None)
    """
    _, found = marks_in(after_thinking(text), marks)
    return stripped(found[-1].answer) if found else None


def finals(text: str, marks: Sequence[str] = KINDS) -> list[str]:
    r"""All final answers of a text that count, the last of them first, each once: none where the last mark is empty.

    Those are all marks of the kinds that are tried. Of phrases, by which a text may reason as well ("the answer is an
    integer"), only such as could be in the place of the last answer, and before it only a plain number or a letter.

    >>> finals("The answer is an integer. The answer is 72."), finals("#### 72\nNo, the answer is 73.")
    (['72'], ['72', '73'])
    """
    text = after_thinking(text)
    kind, found = marks_in(text, marks)
    if not found or not (last := stripped(found[-1].answer)):
        return []
    if kind == "boxed" and len(found) == 1 and not has_other_marks(text):  # nearly always
        return [last]
    answers = dict.fromkeys([last, *(answer for mark in found[:-1] if (answer := stripped(mark.answer)))])
    if kind == "phrase":
        answers = {answer: None for answer in answers if answer == last or contradicts(answer, last)}
    before, after = text[: found[-1].start], text[found[-1].end :]
    for other in marks:
        for part in (before, after) if other != kind else ():
            for mark in MARKS[other](part):
                answer = stripped(mark.answer)
                if answer and (
                    other != "phrase" or (contradicts(answer, last) and (part is after or PLAIN.fullmatch(answer)))
                ):
                    answers[answer] = None
    return list(answers)


def has_other_marks(text: str) -> bool:
    """Whether there may be any but boxes, at a glance."""
    text = text.lower()
    return "##" in text or "<" in text or "ans" in text or "option" in text or "choice" in text


def ends_marked(text: str, marks: Sequence[str] = KINDS) -> bool:
    r"""Whether a text ends with its final answer, but for what closes a formula or a sentence: the asked format.

    >>> ends_marked(r"So it is $\boxed{4}$."), ends_marked(r"\boxed{4} or so"), ends_marked(r"\boxed{}")
    (True, False, False)
    """
    text = after_thinking(text)
    _, found = marks_in(text, marks)
    answer = stripped(found[-1].answer) if found else None
    if not answer or len(answer) > MAX_CHARACTERS or not re.search(r"[^\W_]", EMPTY.sub("", answer)):
        return False
    return not text[found[-1].end :].strip(CLOSING)


@lru_cache(maxsize=2**12)
def gold(solution: str) -> str | None:
    r"""The one answer a solution gives: by its last mark, of the first of KINDS that gives a short one, or as a whole
    where it has no mark; a number without the commas that group its digits. None where there is no single short line.
    GSM8K has them after ####, MATH in a box: https://arxiv.org/abs/2110.14168, https://arxiv.org/abs/2103.03874

    >>> gold("$72$"), gold(r"48 + 24 = 72, so \boxed{72}."), gold("48 + 1,024 =\n#### 1,072"), gold("48 + 24 =\n72")
    ('72', '72', '1072', None)
    """
    if solution.isascii() and solution.isdecimal() and len(solution) <= MAX_CHARACTERS:  # at once
        return solution
    candidates = [found[-1].answer for kind in KINDS if (found := marks_in(solution, [kind])[1])] or [solution]
    for candidate in candidates:
        answer = stripped(candidate)
        if answer and (candidate is not solution or "\\begin" in answer):  # a box, or a matrix, of several lines
            answer = " ".join(answer.split())
        if answer and len(answer) <= MAX_CHARACTERS and "\n" not in answer and answer.count("{") == answer.count("}"):
            return answer.replace(",", "") if GROUPED_NUMBER.fullmatch(answer) else answer
    return None


def after_thinking(text: str) -> str:
    """What a reasoning model says after its thoughts."""
    return text.rpartition("</think>")[2]


def stripped(answer: str | None) -> str | None:
    """An answer without what sets it off: emphasis, and the delimiters of a formula."""
    if answer is None:
        return None
    answer = answer.strip(" \t\n*")
    if answer.endswith(">") and len(answer) <= 2 * MAX_CHARACTERS:
        answer = TRAILING.sub("", answer)
    if introduced := INTRODUCED.match(answer):
        answer = answer[introduced.end() :].strip(" *")
    formula = answer.strip("$")
    return formula.strip() if answer[:1] == answer[-1:] == "$" and "$" not in formula else answer


def contradicts(said: str, last: str) -> bool:
    """Whether what a phrase says is of the kind of the last answer: a number or a formula, a letter, or some words."""
    formal = [re.search(r"[\d\\]", one) is not None for one in (said, last)]
    if CHOSEN.fullmatch(last):
        return CHOSEN.match(said) is not None
    if any(formal):
        return all(formal)
    words = {*said.lower().split()}
    if last.lower() in VERDICTS:
        return bool(VERDICTS & words)
    return len(words) <= 3 and not VAGUE & words and not CHOSEN.fullmatch(said)
