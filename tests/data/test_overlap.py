"""Held-out prompts in training texts: by the index as by a slow and obvious comparison, and each rule by hand."""

import random
import re
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from llmrl.data import overlap
from llmrl.data.overlap import HeldOut, normalised, words_of

TRAIN = "A train leaves Leipzig at noon and goes at 90 km an hour. When does it reach Dresden, 120 km away?"
PLACES = ("Ulm", "Köln", "Bonn", "Jena", "Kiel", "Trier", "Mainz", "Essen", "Halle", "Worms", "Lindau")
VOCABULARY = [
    "one",
    "One",
    "two",
    "naïve",
    "nai\u0308ve",
    "X",
    "7",
    "12",
    "12.",
    "+",
    "-",
    "* 3",
    "x=7",
    "你好",
    "か。",
    "Σας",
]
VOCABULARY += ["don't", "…", "😀", "co-op", "３", "ﬁn", "", "\n", "한국어"]


def slow_words(text):
    """The words, a character at a time."""
    text = unicodedata.normalize("NFKC", text).lower()
    found, run = [], ""
    for place, character in enumerate(text):
        category, after = unicodedata.category(character), (text[place + 1 : place + 3] + "  ")[:2]
        gap = unicodedata.category(after[0]) in ("Sc", "Sk") or unicodedata.category(after[0])[0] in "PZC"
        gap = after[0] in "|~" or (gap and after[0] not in "-*/^")
        number = after[0].isdecimal() or (gap and after[1].isdecimal())
        cjk = any(first <= character <= last for first, last in ("一鿿", "ぁヿ")) and category[0] == "L"
        if category[0] in "LMN" and not cjk:
            run += character
            continue
        found, run = found + [run] * bool(run), ""
        if cjk or (category in ("Sm", "So") and character not in "|~") or (character in "-*/^" and number):
            found.append(character)
    return found + [run] * bool(run)


def ngrams(text_words):
    """The 8-grams, in order."""
    return [tuple(text_words[start : start + 8]) for start in range(len(text_words) - 7)]


def over_half(text_words, other, common):
    """Whether over half of the words stand in 8-grams of another text."""
    shared = set(ngrams(other)) - common
    inside, phrases = (
        {start + k for start, gram in enumerate(ngrams(text_words)) if gram in some for k in range(8)}
        for some in (shared, common)
    )
    return 2 * len(inside - phrases) > len(text_words) - len(phrases)


def numbers(text_words):
    """Numbers and signs of arithmetic."""
    return [word for word in text_words if any(c.isdecimal() for c in word) or word in "+-*/^="]


def in_order(some, all_of_them):
    """Whether these numbers are there, one after the other."""
    there = "".join(f" {number} " for number in all_of_them)
    return bool(re.search(".*".join(re.escape(f" {number} ") for number in some), there))


def slowly(prompts, texts):
    """For each text: is it near; the prompts it is; those it holds."""
    prompts, texts = [slow_words(prompt) for prompt in prompts], [slow_words(text) for text in texts]
    counts = Counter(gram for prompt in {tuple(prompt) for prompt in prompts} for gram in set(ngrams(prompt)))
    common = {gram for gram, count in counts.items() if count > 10}
    for text in texts:
        exact = {number for number, prompt in enumerate(prompts) if prompt and prompt == text}
        most = {number for number, prompt in enumerate(prompts) if over_half(prompt, text, common)}
        alike = any(over_half(text, prompts[i], common) and numbers(prompts[i]) == numbers(text) for i in most)
        held = {number for number in most if in_order(numbers(prompts[number]), numbers(text))}
        yield bool(exact or alike), exact, exact | held


def some_texts(dice, num_prompts):
    """Held-out prompts, some of them alike, and training texts made of pieces of them."""
    phrase = dice.choices(VOCABULARY, k=12)
    prompts = [dice.choices(VOCABULARY, k=dice.choice((0, 1, 5, 8, 9, 16, 30))) for _ in range(num_prompts)]
    prompts = [phrase[dice.randrange(3) :] + prompt if dice.random() < 0.5 else prompt for prompt in prompts]
    texts = []
    for _ in range(30):
        text = dice.choices(VOCABULARY, k=dice.choice((0, 0, 3))) + list(dice.choice(prompts))
        for _ in range(dice.choice((0, 0, 1, 2))):
            if text:
                text[dice.randrange(len(text))] = dice.choice(VOCABULARY)
        texts.append(text[dice.choice((0, 0, 1, 4)) :] + dice.choice(prompts)[: dice.choice((0, 0, 10))])
    return [" ".join(prompt) for prompt in prompts], [" ".join(text) for text in texts]


@pytest.mark.parametrize("seed", range(100))
def test_the_index_finds_what_a_slow_comparison_finds(seed):
    """3,000 texts, of which most hold a prompt, or nearly."""
    prompts, texts = some_texts(random.Random(seed), num_prompts=25)
    held_out, exact, shared = HeldOut(prompts), set(), set()
    expected = list(slowly(prompts, texts))
    assert [near for near, _, _ in expected] == held_out.near(texts).tolist()
    for text, (_, is_exact, is_shared) in zip(texts, expected, strict=True):
        held_out.look_up([text])
        exact, shared = exact | is_exact, shared | is_shared
        assert (len(exact), len(shared)) == (held_out.exact, held_out.shared)
    different = {normalised(prompts[number]) for number in shared}
    assert [True] * min(5, len(different)) == [prompt in expected[text][2] for prompt, text in held_out.examples]


@pytest.mark.parametrize("seed", range(10))
def test_neither_batches_nor_order_nor_colliding_hashes_change_the_result(seed, monkeypatch):
    """Texts at once, in Arrow's arrays, backwards, a few characters at a time; all but two bits of a hash lost."""
    prompts, texts = some_texts(random.Random(seed), num_prompts=10)
    whole = HeldOut(prompts)
    whole.look_up(texts)
    expected, near = (whole.exact, whole.shared), whole.near(texts).tolist()
    assert 0 < sum(near) < len(near)

    arrow = HeldOut(prompts)
    arrow.look_up(pa.array(texts[:7]))
    arrow.look_up(pa.chunked_array([texts[7:9], texts[9:]]))
    assert (*expected, whole.examples) == (arrow.exact, arrow.shared, arrow.examples)

    monkeypatch.setattr(overlap, "PIECE", 40)
    backwards = HeldOut(prompts[::-1])
    backwards.look_up(texts[::-1])
    assert (expected, near[::-1]) == ((backwards.exact, backwards.shared), backwards.near(texts[::-1]).tolist())

    good = overlap.hashed
    monkeypatch.setattr(overlap, "hashed", lambda *spans: good(*spans) & np.uint64(3 << 62))
    colliding = HeldOut(prompts)
    colliding.look_up(texts)
    assert (expected, near) == ((colliding.exact, colliding.shared), colliding.near(texts).tolist())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" …?! \n", ""),
        ("Don't PANIC — “now”", "don t panic now"),
        ("snake_case, a|b ~ $x$", "snake case a b x"),
        ("ＡＢＣ ﬁne, cafe\u0301 ÉTÉ", "abc fine café été"),
        ("3-4 = - 5", "3 - 4 = - 5"),
        ("well-known, 3-year-old **bold**", "well known 3 year old bold"),
        ("3 / 4, 2*x, x<=y", "3 / 4 2 x x < = y"),
        ("你好, 世界。ab中c", "你 好 世 界 ab 中 c"),
        ("カタカナ・ー", "カ タ カ ナ ー"),
        ("한국어 텍스트", "한국어 텍스트"),
        ("good😀😀", "good 😀 😀"),
    ],
)
def test_words(text, expected):
    """Case, spaces, punctuation and forms of Unicode do not tell texts apart, signs of arithmetic do."""
    assert expected == normalised(text)
    assert expected.split() == words_of(text) == slow_words(text)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (TRAIN, True),
        (TRAIN.upper().replace(",", " –\n"), True),
        (TRAIN.replace("Dresden", "Meißen"), True),
        ("Solve this. " + TRAIN, True),
        (TRAIN.replace("90", "80"), False),
        (TRAIN.replace("120", "+ 120"), False),
        (TRAIN.replace("Leipzig", "Halle").replace("goes", "moves").replace("reach", "get to"), False),
        (
            TRAIN + " Say how you found it, and draw the way of the train on a map, with all places where it stops.",
            False,
        ),
        (TRAIN[:40], False),
        ("What is 17 + 25?", True),
        ("what is 17+25", True),
        ("What is 17 - 25?", False),
        ("What is 17 + 26?", False),
        ("Now, what is 17 + 25?", False),
        ("!", False),
        ("", False),
    ],
)
def test_a_prompt_is_near_where_words_and_numbers_are_those_of_a_held_out_one(prompt, expected):
    """A changed word in a long prompt is no other problem, a changed number is one."""
    assert [expected] == HeldOut([TRAIN, "What is 17 + 25?", "?"]).near([prompt]).tolist()


def test_a_held_out_prompt_is_found_within_a_long_text():
    """What has been seen in training, even as a part of something else."""
    held_out = HeldOut(["What is 17 + 25?", TRAIN, TRAIN.replace("noon", "five"), "Say hello in Dutch."])
    held_out.look_up(["Nothing of the kind.", "", "What is 17 + 25? 42."])
    assert (0, 0, []) == (held_out.exact, held_out.shared, held_out.examples)
    held_out.look_up(["Once upon a time: " + TRAIN.replace("noon", "9")])
    held_out.look_up(["say HELLO in dutch", TRAIN])
    assert (2, 3) == (held_out.exact, held_out.shared)
    assert [(1, 3), (2, 3), (3, 4)] == held_out.examples


def test_over_half_of_the_words_in_one_text():
    """Half is not enough, and two texts that have a half each do not add up."""
    first, second = "a b c d e f g h", "i j k l m n o p"
    held_out = HeldOut([f"{first} {second}"])
    held_out.look_up([first, second, f"{second} {first}"[:17]])
    assert 0 == held_out.shared
    held_out.look_up([f"- {first} i"])
    assert (0, 1) == (held_out.exact, held_out.shared)


def test_copies_of_a_held_out_prompt_all_count():
    """But they make none of its phrases common."""
    held_out = HeldOut([TRAIN] * 12)
    held_out.look_up([TRAIN.replace("noon", "nine")])
    assert (0, 12, [(0, 0)]) == (held_out.exact, held_out.shared, held_out.examples)


@pytest.mark.parametrize(("num_prompts", "expected"), [(10, 10), (11, 0)])
def test_common_phrases_count_for_nothing(num_prompts, expected):
    """What more than ten held-out prompts have says nothing of one."""
    phrase = "Think step by step and put the final answer into a box"
    held_out = HeldOut([f"{phrase}: {place}?" for place in PLACES[:num_prompts]])
    held_out.look_up([f"{phrase}: Paris!"])
    assert expected == held_out.shared
    assert [expected > 0] == held_out.near([f"{phrase}: Paris!"]).tolist()
    assert [True] == held_out.near([f"{phrase}: {PLACES[0]}!"]).tolist()
    held_out.look_up([f"{phrase}: {PLACES[0]}!"])
    assert 1 == held_out.exact


def test_nothing_held_out_and_nothing_to_look_up():
    """No prompts, no texts, no words."""
    held_out = HeldOut([])
    held_out.look_up([TRAIN, ""])
    assert (0, 0) == (held_out.exact, held_out.shared)
    assert ([False], []) == (held_out.near([TRAIN]).tolist(), held_out.near([]).tolist())


def test_texts_that_repeat_themselves_take_no_long_time():
    """10,000 times the same word, in a prompt and in texts: nothing grows with the product."""
    held_out = HeldOut(["ha " * 10_000])
    held_out.look_up(["ha " * 20_000] * 10)
    assert (0, 1) == (held_out.exact, held_out.shared)
