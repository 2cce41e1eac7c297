"""Honest rewritings of answers: texts of completions, each with a gold answer, that every honest reader calls right.

They are made by rule from values drawn by chance, so that no list of known cases passes for a judge.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from math import gcd
from random import Random

Forms = tuple[Sequence[str], Sequence[str]]
"""Ways to write a gold answer, and ways to write an answer: each of the second is right for each of the first."""

DRAWS, ANSWERS = 3, 5
"""How many values a family is asked for, and how many of the ways to write each are taken."""

FAMILIES: dict[str, Callable[[Random], Forms]] = {}


def family(draw: Callable[[Random], Forms]) -> Callable[[Random], Forms]:
    """The family of answers under its name, `mixed_number` as the kind "mixed number"."""
    FAMILIES[draw.__name__.replace("_", " ")] = draw
    return draw


def rewritings(seed: int) -> Iterator[tuple[str, str, str]]:
    """Kind, text of a completion and gold answer of each pair; the same for the same seed."""
    rng = Random(seed)
    every = [mark for marks in MARKS.values() for mark in marks]
    for kind, draw in FAMILIES.items():
        for _ in range(DRAWS):
            golds, answers = draw(rng)
            answers = list(dict.fromkeys(answers))
            for answer in rng.sample(answers, min(ANSWERS, len(answers))):
                marks = MARKS["box"] if rng.random() < 0.6 else every
                yield kind, _marked(rng, answer, marks), _gold(rng, rng.choice(golds))
    for kind, marks in MARKS.items():
        for mark in marks:
            form = rng.choice(FAMILIES[rng.choice(FOR_MARKS)](rng)[0])
            yield f"mark: {kind}", _marked(rng, form, [mark]), _gold(rng, form)
    for mark in (r"$\boxed@$", r"$\boxed @$", r"\boxed@.", r"$\fbox@$"):
        digit = str(rng.randint(0, 9))
        yield "mark: box without braces", _working(rng) + mark.replace("@", digit), _gold(rng, digit)


def _fill(forms: str, **values: object) -> list[str]:
    """The forms, which ` | ` or a new line parts, with each <name> as its value."""
    parts = re.split(r" \| |\n *", forms)
    return [re.sub(r"<(\w+)>", lambda found: str(values[found[1]]), form) for form in parts]


# Marks. [@] stands for the answer as it is, @ for the answer as it stands in prose.

MARKS = {
    "box": [*_fill(r"$\boxed{[@]}$ | $$\boxed{[@]}$$ | \[\boxed{[@]}\] | \(\boxed{[@]}\)"), "\\[\n\\boxed{[@]}\n\\]"],
    "box typed": _fill(r"""\boxed{[@]} | $\fbox{[@]}$ | \fbox{[@]} | $\boxed {[@]}$ | \boxed{ [@] } | **$\boxed{[@]}$**
        $\displaystyle \boxed{[@]}$ | \[\boxed{\displaystyle [@]}\]"""),
    "box closed": _fill(r"""\boxed{[@]}. | $\boxed{[@]}$. | \[\boxed{[@]}.\] | \boxed{[@]}$ | \boxed{[@]}\]
        \boxed{[@]}\)."""),
    "box closed within": _fill(r"\boxed{[@].} | \boxed{$[@]$} | \boxed{\([@]\)} | \boxed{\,[@]\,} | \boxed{[@] \quad}"),
    "box twice": [
        "$\\boxed{[@]}$\n\nChecking this once more gives the same.\n\n$\\boxed{[@]}$",
        "We get \\[\\boxed{[@]}\\]\n\n**Final Answer**\n\n\\[\\boxed{[@]}\\]",
        "$\\boxed{[@]}$. Again: $\\fbox{[@]}$.",
    ],
    "box and phrase": [
        r"Final Answer: The final answer is $\boxed{[@]}$. I hope it is correct.",
        r"The answer is $\boxed{[@]}$.",
        r"Therefore, the final answer is: $\boxed{[@]}$",
        r"**Answer:** $\boxed{[@]}$",
        "$\\boxed{[@]}$\n\nThe answer is @.",
    ],
    "box and others": ["<answer>$\\boxed{[@]}$</answer>", "$\\boxed{[@]}$\n\n#### @", "#### $\\boxed{[@]}$"],
    "thought": [
        "<think>\nIt might be $\\boxed{77}$. No, that forgets a case.\n</think>\n\n$\\boxed{[@]}$",
        "<think>\nThe answer is 77? Let me check.\n</think>\n\nThe answer is @.",
        "#### 77\n</think>\n#### @",
    ],
    "hash": ["#### @", "#### @\n", "####  @", "#### Step 1: count them\nThat is done.\n\n#### @"],
    "tag": ["<answer>@</answer>", "<answer> @ </answer>", "<answer>\n@\n</answer>", "<answer>@.</answer>"],
    "phrase": _fill("""The answer is @. | The answer is: @ | Therefore, the final answer is: @ | Answer: @
        So the correct answer is @. | Final answer: @ | ANSWER: @ | The answer is @. This ends the proof."""),
    "bold phrase": _fill("""**Answer:** @ | **Answer**: @ | **Final Answer:** @ | The answer is **@**.
        **The answer is @.** | **Answer: @** | **Answer:** **@**"""),
}
FOR_MARKS = _fill("small integer | thousands | negative fraction | root | polynomial | point | angle | interval | word")


def _working(rng: Random) -> str:
    a, b = rng.randint(2, 40), rng.randint(2, 40)
    said = [
        "Let us go step by step.",
        f"First we have ${a} + {b} = {a + b}$.",
        f"There are {a} of the first sort and {b} of the second, {a + b} in all.",
        f"From \\[t^2 = {a * a}\\] we get $t = {a}$, since $t$ is positive.",
        f"**Step 1.** Multiply: {a} * {b} = {a * b}.",
        "Putting these together, nothing else is left to count.",
    ]
    return rng.choice([" ", "\n", "\n\n"]).join(rng.sample(said, rng.randint(1, 3))) + rng.choice(["\n", "\n\n"])


def _marked(rng: Random, answer: str, marks: Sequence[str]) -> str:
    """Some working and the answer, under one of the marks that can hold it."""
    if answer.startswith(("=", r"\approx", "≈")) or "\n" in answer:  # "the answer is = 5" is no English
        marks = [mark for mark in marks if "[@]" in mark and "@" not in mark.replace("[@]", "")]
    if "*" in answer:
        marks = [mark for mark in marks if "**" not in mark] or MARKS["phrase"]
    if _dollars(answer):  # no dollars around dollars
        marks = [mark for mark in marks if "$" not in mark and r"\(" not in mark] or [r"\boxed{[@]}"]
    prose = answer
    if not _dollars(answer) and (re.search(r"[\\{~]", answer) or (not _words(answer) and rng.random() < 0.3)):
        prose = f"${answer}$"
    mark = rng.choice(marks)
    if answer.endswith("."):
        mark = mark.replace("@].", "@]").replace("@.", "@")
    return _working(rng) + mark.replace("[@]", "\0").replace("@", prose).replace("\0", answer)


def _gold(rng: Random, form: str) -> str:
    """The gold answer as data sets have it: bare, between dollars, at the end of a solution, as GSM8K has it."""
    if _dollars(form):
        return form
    golds = [form, f"{_working(rng)}Thus we find $\\boxed{{{form}}}$.", f"So it is \\boxed{{{form}}}"]
    if "\\" in form or not _words(form):
        golds.append(f"${form}$")
    if re.fullmatch(r"-?[\d,.]+", form):
        golds += [f"{_working(rng)}#### {form}", f"She has 2+3=<<2+3=5>>5 more.\n#### {form}"]
    return rng.choice(golds)


def _dollars(form: str) -> bool:
    return bool(re.search(r"(?<!\\)\$|\\\(", form))


def _words(form: str) -> bool:
    return bool(re.search(r"[A-Za-z]{2}|\d [mgL]\b", re.sub(r"\\[A-Za-z]+", "", form)))


# Ways to write what is the same.


def _frac(a: object, b: object) -> str:
    return rf"\frac{{{a}}}{{{b}}}"


def _root(n: int) -> str:
    return rf"\sqrt{{{n}}}"


def _term(number: int, symbol: str, times: str = "") -> str:
    return {1: symbol, -1: f"-{symbol}"}.get(number, f"{number}{times}{symbol}")


def _sum(*terms: object) -> str:
    return " + ".join(str(term) for term in terms if term).replace("+ -", "- ")


def _decimal(value: Fraction) -> str:
    """The value in decimals, of which it has at most six."""
    assert (value * 10**6).denominator == 1
    return re.sub(r"\.?0*$", "", f"{float(value):.6f}")


def _plain(form: str, power: str = "^") -> str:
    r"""What is \frac{\sqrt{3}x}{2} with LaTeX as keyboards have it, sqrt(3)*x/2."""
    form = re.sub(r"\\sqrt\{(\w+)\}", r"sqrt(\1)", form).replace(r"\pi", "pi").replace(r" \cdot ", "*")
    form = re.sub(r"\^\{(-?\w+)\}", r"^(\1)", form)

    def over(found: re.Match[str]) -> str:
        above = found[1] if re.fullmatch(r"-?\w*(\^\w|sqrt\(\w+\))?", found[1]) else f"({found[1]})"
        below = found[2] if re.fullmatch(r"\w|\d+|\w\^\d|sqrt\(\w+\)", found[2]) else f"({found[2]})"
        return f"({above}/{below})" if re.match(r"[\w*]", form[found.end() :]) else f"{above}/{below}"

    form = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", over, form)
    return re.sub(r"(?<=[\d)])(?=[a-z(])|(?<=x)(?=y)|\b(?<=[xy])(?=\()", "*", form).replace("^", power)


STYLES: list[Callable[[str], str]] = [
    lambda form: re.sub(r" *([-+=<>,]) *", r"\1", form),
    lambda form: form.replace("-", "−"),
    lambda form: form.replace(r"\frac", r"\dfrac"),
    lambda form: form.replace(r"\frac", r"\tfrac"),
    lambda form: re.sub(r"\^(\d)", r"^{\1}", form),
    lambda form: re.sub(r"\^([23])(?!\d)", lambda found: "  ²³"[int(found[1])], form),
    lambda form: re.sub(r"(\\\{|[(\[])", r"\\left\1", re.sub(r"(\\\}|[)\]])", r"\\right\1", form)),
    lambda form: re.sub(r" ([-+=]) ", r"\\,\1\\,", form),
    lambda form: re.sub(r" ([-+=]) ", r"\\; \1 \\; ", form),
    lambda form: form.replace(", ", r",\,"),
    lambda form: form.replace(", ", r",\; "),
    lambda form: form.replace(", ", r",\ "),
    lambda form: form.replace(", ", ",~"),
    lambda form: form.replace(", ", r", \quad "),
    lambda form: form.replace(r" \cdot ", r" \times "),
    lambda form: form.replace(r"\pi", "π").replace(r"\infty", "∞").replace(r"\cup", "∪").replace(r"\pm", "±"),
    lambda form: form.replace(r"\le ", "≤ ").replace(r"\ge ", "≥ "),
    lambda form: form.replace(r"\le ", r"\leq ").replace(r"\ge ", r"\geq "),
]


def _styled(rng: Random, forms: Sequence[str]) -> list[str]:
    """The forms, and each of them in up to three of the styles of type that change it."""
    styled = [sorted({style(form) for style in STYLES} - {form}) for form in forms]
    return [*forms, *(form for some in styled for form in rng.sample(some, min(3, len(some))))]


def _keyed(rng: Random, forms: Sequence[str]) -> list[str]:
    """The forms in styles of type, and as keyboards have them."""
    return [*_styled(rng, forms), *map(_plain, forms), *(_plain(form, "**") for form in forms)]


def _signed(rng: Random, largest: int) -> int:
    return rng.randint(1, largest) * rng.choice([1, -1])


def _coprime(rng: Random, largest: int) -> tuple[int, int]:
    while True:
        a, b = rng.randint(1, largest), rng.randint(2, largest)
        if gcd(a, b) == 1:
            return a, b


def _distinct(rng: Random, count: int, largest: int = 20) -> list[int]:
    return rng.sample([number for number in range(-largest, largest + 1) if number], count)


def _shuffled(rng: Random, items: Sequence[str]) -> list[str]:
    return rng.sample(items, len(items))


# Numbers.


@family
def small_integer(rng: Random) -> Forms:
    n = _signed(rng, 999)
    forms = r"""<n> | <n>. | \text{<n>} | \mathrm{<n>} | \textbf{<n>} | \mathbf{<n>} | $<n>$ | \(<n>\) | {<n>} | <n>.0
        <n>.00 | \,<n> | <n>\, | \;<n> | \ <n> | <n>~ | <n>\! | <n>\quad | \displaystyle <n> | <minus>"""
    return [str(n)], _fill(forms, n=n, minus=str(n).replace("-", "−"))


@family
def thousands(rng: Random) -> Forms:
    n = f"{rng.choice([1, 1, -1]) * rng.randint(1000, 10 ** rng.randint(4, 9)):,}"
    forms = [n.replace(",", mark) for mark in (",", "", "{,}", r",\!", r"\,", " ", r"\ ", "\u2009", "\u00a0", "\u202f")]
    return forms[:4], forms


@family
def named_value(rng: Random) -> Forms:
    n = rng.choice([str(_signed(rng, 500)), _frac(*_coprime(rng, 30)), f"{rng.randint(1, 99)}.{rng.randint(1, 9)}"])
    forms = r"""= <n> | =<n> | \approx <n> | ≈ <n> | x = <n> | x=<n> | \theta = <n> | a_{10} = <n> | f(2) = <n>
        AB = <n> | \text{Area} = <n> | \text{Total} = <n> | P=<n> | S_n = <n> | k\,=\,<n> | t = <n>."""
    return [n], _fill(forms, n=n)


@family
def solved_equation(rng: Random) -> Forms:
    x, n = rng.choice("xnty"), rng.choice([str(_signed(rng, 90)), _frac(*_coprime(rng, 30))])
    return [f"{x} = {n}", f"{x}={n}"], [n, f"{n}.", *_styled(rng, [f"{x} = {n}"])]


@family
def power_of_ten(rng: Random) -> Forms:
    k = rng.choice([rng.randint(3, 9), -rng.randint(2, 4)])
    digits = rng.choice([f"{rng.randint(2, 9)}", f"{rng.randint(1, 9)}.{rng.randint(1, 9)}"])
    value, raised = Fraction(digits) * Fraction(10) ** k, str(k).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    forms = r"""<d> \times 10^{<k>} | <d>\times10^{<k>} | <d> \cdot 10^{<k>} | <d> × 10^{<k>} | <d>·10^{<k>} | <d>e<k>
        <d>E<k> | <d> × 10<raised>"""
    unbraced = r"<d> \times 10^<k> | <d> * 10^<k> | <d>*10^<k>"
    written = [f"{int(value):,}", str(value)] if k > 0 else [_decimal(value)]
    short = _fill(forms + f"\n{unbraced}" * (k > 0), d=digits, k=k, raised=raised)
    return [short[0], *written], [*short, *written]


@family
def bare_power_of_ten(rng: Random) -> Forms:
    k = rng.randint(3, 9)
    forms = _fill("10^{<k>} | <n> | <commas> | 10^<k> | 1e<k> | 10**<k>", k=k, n=10**k, commas=f"{10**k:,}")
    return forms[:3], forms


ONES = _fill("""zero | one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve | thirteen
    fourteen | fifteen | sixteen | seventeen | eighteen | nineteen""")
TENS = _fill("twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety")


@family
def number_in_words(rng: Random) -> Forms:
    if rng.random() < 0.5:
        n, (zeros, size) = rng.randint(2, 900), rng.choice([(3, "thousand"), (6, "million"), (9, "billion")])
        forms = r"<n> <size> | <n>\text{ <size>} | <n> \text{ <size>} | <n>~\text{<size>} | <n> <size>."
        return [str(n * 10**zeros), f"{n * 10**zeros:,}"], _fill(forms, n=n, size=size)
    n = rng.randint(1, 99)
    word = ONES[n] if n < 20 else f"{TENS[n // 10 - 2]}-{ONES[n % 10]}".removesuffix("-zero")
    return [str(n)], _fill(r"<w> | <W> | <w>. | \text{<w>} | \textbf{<W>}", w=word, W=word.capitalize())


@family
def decimal(rng: Random) -> Forms:
    whole = rng.choice([0, rng.randint(1, 99), rng.randint(1000, 99999)])
    digits = rng.choice([n for n in range(1, 1000) if n % 10])
    n = f"{whole:,}.{digits}"
    forms = [n, n.replace(",", ""), n.replace(",", "{,}"), n.replace(",", r"\,"), *[f".{digits}"] * (not whole)]
    return forms[:3], [*forms, *_fill(r"<n>0 | <n>00 | <n>. | \text{<n>} | \approx <n> | $<n>$ | \mathbf{<n>}", n=n)]


@family
def decimal_or_fraction(rng: Random) -> Forms:
    b = rng.choice([2, 4, 5, 8, 10, 16, 20, 25, 50])
    value = Fraction(rng.choice([a for a in range(1, 60) if gcd(a, b) == 1]), b) * rng.choice([1, -1])
    a, minus = abs(value.numerator), "-" * (value < 0)
    forms = r"<n> | <minus>\frac{<a>}{<b>} | <minus><a>/<b> | <minus>\dfrac{<a>}{<b>}"
    return (_fill(forms, n=_decimal(value), minus=minus, a=a, b=b),) * 2


@family
def fraction(rng: Random) -> Forms:
    a, b = _coprime(rng, 120)
    forms = r"""\frac{<a>}{<b>} | <a>/<b> | \dfrac{<a>}{<b>} | \tfrac{<a>}{<b>} | <a> / <b> | \frac{ <a> }{ <b> }
        \frac {<a>} {<b>} | {<a>}/{<b>} | <a>/<b>. | \displaystyle\frac{<a>}{<b>} | \text{<a>/<b>} | $<a>/<b>$"""
    forms = _fill(forms, a=a, b=b)
    return forms[:3], forms


FRACTION_SIGNS = [
    (known[0], known[1:])
    for known in _fill("½12 | ⅓13 | ⅔23 | ¼14 | ¾34 | ⅕15 | ⅖25 | ⅗35 | ⅘45 | ⅙16 | ⅚56 | ⅛18 | ⅜38 | ⅝58 | ⅞78")
]


@family
def fraction_of_digits(rng: Random) -> Forms:
    sign, (a, b) = rng.choice(FRACTION_SIGNS)
    forms = r"""\frac{<a>}{<b>} | \frac<a><b> | <a>/<b> | <sign> | \frac <a><b> | \frac <a> <b> | \frac{<a>}<b>
        \frac<a>{<b>} | \dfrac<a><b> | \tfrac<a><b> | <sign>."""
    forms = _fill(forms, a=a, b=b, sign=sign)
    return forms[:3], forms


@family
def negative_fraction(rng: Random) -> Forms:
    a, b = _coprime(rng, 40)
    forms = r"""-\frac{<a>}{<b>} | \frac{-<a>}{<b>} | -<a>/<b> | \frac{<a>}{-<b>} | -\dfrac{<a>}{<b>} | −<a>/<b>
        −\frac{<a>}{<b>} | - \frac{<a>}{<b>} | -\,\frac{<a>}{<b>}"""
    forms = _fill(forms, a=a, b=b)
    return forms[:3], forms


@family
def mixed_number(rng: Random) -> Forms:
    n, (sign, (a, b)), minus = rng.randint(1, 30), rng.choice(FRACTION_SIGNS), rng.choice(["", "", "-"])
    forms = r"""<n>\frac{<a>}{<b>} | <n> \frac{<a>}{<b>} | <n> <a>/<b> | \frac{<c>}{<b>} | <c>/<b>
        <n>\,\frac{<a>}{<b>} | <n>\dfrac{<a>}{<b>} | <n>\tfrac{<a>}{<b>} | <n>\frac<a><b> | <n><sign> | <n> <sign>"""
    forms = [minus + form for form in _fill(forms, n=n, a=a, b=b, c=n * int(b) + int(a), sign=sign)]
    return forms[:4], forms


@family
def percentage(rng: Random) -> Forms:
    value = Fraction(rng.randint(3, 199), 2)
    n, share = _decimal(value), value / 100
    forms = r"""<n>\% | <n>% | <n> \% | <n> % | <n> percent | <n>\text{ percent} | <n>\,\% | <n>\%. | <n> | x = <n>\%
        \approx <n>\% | \mathbf{<n>\%} | <share> | <a>/<b> | \frac{<a>}{<b>}"""
    forms = _fill(forms, n=n, share=_decimal(share), a=share.numerator, b=share.denominator)
    return forms[:3], forms


@family
def percent_sign_of_the_answer(rng: Random) -> Forms:
    value = Fraction(rng.randint(3, 199), 2)
    share = value / 100
    golds = rng.choice([[_decimal(share), _frac(share.numerator, share.denominator)], [_decimal(value)]])
    return golds, _fill(r"<n>% | <n>\% | <n> \% | <n> percent | <n>\text{ percent} | x = <n>\%", n=_decimal(value))


def _repeating(rng: Random) -> tuple[str, str, Fraction]:
    """What stands before the digits that repeat, those, and the value: "2.1", "6" and 13/6."""
    repeated = "".join(rng.sample("12345678", rng.choice([1, 1, 2, 3])))
    digits = rng.choice(["", "", rng.choice([digit for digit in "12345678" if digit != repeated[-1]])])
    whole, scale = rng.choice([0, 0, rng.randint(1, 9)]), 10 ** len(digits)
    value = Fraction(int(f"{whole}{digits}"), scale) + Fraction(int(repeated), (10 ** len(repeated) - 1) * scale)
    return f"{whole}.{digits}", repeated, value


@family
def repeating_decimal(rng: Random) -> Forms:
    start, repeated, value = _repeating(rng)
    forms = r"""<s>\overline{<r>} | \frac{<a>}{<b>} | <a>/<b> | \dfrac{<a>}{<b>} | <s><r><r><r>... | <s><r><r><r>\ldots
        <s><r><r><r>\dots | <s><r><r><r>… | <s>\overline{<r>}."""
    of_one_digit = r" | <s>\bar{<r>} | <s>\overline<r>" * (len(repeated) == 1)
    forms = _fill(forms + of_one_digit, s=start, r=repeated, a=value.numerator, b=value.denominator)
    return forms[:1], forms


@family
def fraction_as_repeating_decimal(rng: Random) -> Forms:
    start, repeated, value = _repeating(rng)
    answers = _fill(r"<s>\overline{<r>} | x = <s>\overline{<r>} | <s>\overline{<r>}.", s=start, r=repeated)
    return _fill(r"\frac{<a>}{<b>} | <a>/<b>", a=value.numerator, b=value.denominator), answers


# Money, units, angles, times, ratios.


@family
def money(rng: Random) -> Forms:
    whole = rng.choice([rng.randint(2, 999), rng.randint(1000, 99999)])
    n, cents = f"{whole:,}", rng.choice(["", f".{rng.randint(1, 99):02}"])
    forms = r"\$<n> | $<n> | <n> | \$ <n> | <n> dollars | <n>\text{ dollars} | $<n>. | \text{\$<n>} | \$<braced>"
    forms = _fill(forms, n=n + cents, braced=n.replace(",", "{,}") + cents)
    return forms[:3], forms + ([] if cents else _fill(r"\$<n>.00 | $<n>.00 | <n>.00", n=n))


@family
def other_money(rng: Random) -> Forms:
    n, (sign, name) = rng.randint(2, 999), rng.choice([("€", "euros"), ("£", "pounds"), ("¥", "yen")])
    forms = r"<n> | <s><n> | <n> <s> | <n><s> | <s> <n> | \text{<s>}<n> | <n> <name> | <n>\text{ <name>}"
    forms = _fill(forms, n=n, s=sign, name=name)
    return forms[:3], forms


UNITS = [
    unit.split(", ")
    for unit in _fill("""cm, centimeters, centimetres | km, kilometers, kilometres | g, grams
    m, meters, metres | mm, millimeters | kg, kilograms | mL, milliliters | L, liters, litres | ft, feet | hours, hrs
    mph, miles per hour | km/h, kilometers per hour | min, minutes | sec, seconds | lbs, pounds""")
]
THINGS = _fill(
    "apples | marbles | students | pages | tickets | cookies | chairs | books | stickers | games | eggs | trees"
)


def _with_unit(n: object, unit: str) -> list[str]:
    forms = r"""<n> <unit> | <n>\text{ <unit>} | <n> \text{ <unit>} | <n> <unit>. | <n>\ \text{<unit>}
        <n>\;\text{<unit>} | <n>\,\text{<unit>} | <n>~\text{<unit>} | <n>\text{<unit>}"""
    return _fill(forms + r" | <n>\,\mathrm{<unit>}" * (" " not in unit), n=n, unit=unit)


@family
def unit_of_the_answer(rng: Random) -> Forms:
    n = rng.choice([f"{rng.randint(2, 9999):,}", f"{rng.randint(2, 99)}.{rng.randint(1, 9)}"])
    unit = rng.choice([*THINGS, *(name for unit in UNITS for name in unit)])
    return [n], _with_unit(n, unit) + [f"{n}{unit}"] * (unit in ("cm", "km", "kg", "mph", "mL"))


@family
def unit_of_the_gold(rng: Random) -> Forms:
    n, unit = rng.randint(2, 999), rng.choice([*THINGS, *(name for unit in UNITS for name in unit)])
    return _with_unit(n, unit), [*_fill(r"<n> | <n>. | \text{<n>} | x = <n> | <n>.0", n=n), *_with_unit(n, unit)[:4]]


@family
def names_of_a_unit(rng: Random) -> Forms:
    n, (unit, other) = rng.randint(2, 999), rng.sample(rng.choice(UNITS), 2)
    return _with_unit(n, unit)[:4], _with_unit(n, other)


@family
def area_or_volume(rng: Random) -> Forms:
    short, long = rng.choice([("cm", "centimeters"), ("m", "meters"), ("ft", "feet")])
    power, word = rng.choice([(2, "square"), (3, "cubic")])
    forms = r"""<n> | <n>\text{ <short>}^<p> | <n> \text{ <short>}^{<p>} | <n> <word> <long> | <n>\,\mathrm{<short>}^<p>
        <n> <short><raised> | <n>\text{ <word> <long>} | <n> <short>^<p> | <n>~\text{<short>}^<p>"""
    n = rng.randint(2, 900)
    forms = _fill(forms, n=n, short=short, long=long, p=power, word=word, raised="  ²³"[power])
    return forms[:4], forms


@family
def angle(rng: Random) -> Forms:
    n = rng.choice([f"{rng.randint(2, 359)}", f"{rng.randint(1, 179)}.5"])
    forms = r"""<n>^\circ | <n>^{\circ} | <n>° | <n> | <n> degrees | <n>\text{ degrees} | <n>^\circ. | <n> ^\circ
        x = <n>° | \theta = <n>^\circ | \angle ABC = <n>^\circ | {<n>}^\circ | <n>\,^\circ"""
    forms = _fill(forms, n=n)
    return forms[:4], forms


@family
def time_of_day(rng: Random) -> Forms:
    hour = rng.randint(1, 11)
    forms = r"""<h>:<m> PM | <h>:<m> p.m. | <late>:<m> | <h>:<m>\text{ PM} | <h>:<m> pm | <h>:<m>PM | <h>:<m> P.M.
        <h>:<m> \text{ p.m.} | \text{<h>:<m> PM} | <h>:<m>~\text{PM}"""
    forms = _fill(forms, h=hour, late=hour + 12, m=f"{rng.randint(5, 59):02}")
    return forms[:4], forms


@family
def ratio(rng: Random) -> Forms:
    a, b = _coprime(rng, 9)
    forms = r"""<a>:<b> | <a> : <b> | <a>/<b> | \frac{<a>}{<b>} | <a> to <b> | <a> \text{ to } <b> | \text{<a>:<b>}
        <a>:<b>. | <a>\,:\,<b> | <a>\text{:}<b> | <a>{:}<b>"""
    forms = _fill(forms, a=a, b=b)
    return forms[:2], forms


# Irrational and complex numbers.

SQUAREFREE = (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21, 22, 23)


@family
def root(rng: Random) -> Forms:
    a, b = rng.randint(2, 30) * rng.choice([1, 1, -1]), rng.choice(SQUAREFREE)
    forms = r"<a>\sqrt{<b>} | <a> \sqrt{<b>} | <a> \cdot \sqrt{<b>} | <a>√<b> | <a>sqrt(<b>) | <a>\,\sqrt{<b>}"
    forms = _fill(forms + r" | <a>\sqrt<b> | <a>\sqrt <b>" * (b < 10), a=a, b=b)
    return forms[:2], [*_keyed(rng, forms[:3:2]), *forms[1:]]


@family
def higher_root(rng: Random) -> Forms:
    forms = r"""\sqrt[<k>]{<n>} | \sqrt[ <k> ]{<n>} | \sqrt [<k>] {<n>} | x = \sqrt[<k>]{<n>} | <n>^{1/<k>}
        <n>^(1/<k>) | <n>^{\frac{1}{<k>}} | <n>^{\frac1<k>} | <n>**(1/<k>)"""
    forms = _fill(forms, k=rng.randint(3, 5), n=rng.choice(SQUAREFREE))
    return forms[:1], forms


@family
def rationalised(rng: Random) -> Forms:
    b = rng.choice(SQUAREFREE)
    a = rng.choice([a for a in range(1, 12) if gcd(a, b) == 1])
    forms = [_frac(a, _root(b)), _frac(_term(a, _root(b)), b), _frac(a, b) + _root(b)]
    return forms[:2], [*_keyed(rng, forms), rf"\frac{{{a}}}{{√{b}}}", f"{a}/√{b}"]


@family
def surd(rng: Random) -> Forms:
    a, k, b, (p, q) = _signed(rng, 20), _signed(rng, 9), rng.choice(SQUAREFREE), _coprime(rng, 9)
    if rng.random() < 0.5:
        forms = [_sum(a, _term(k, _root(b))), _sum(_term(k, _root(b)), a)]
        return forms, [*_keyed(rng, forms), _sum(a, _term(k, f"√{b}"))]
    forms = [_frac(_sum(p, _root(b)), q), _frac(_sum(_root(b), p), q), _sum(_frac(p, q), _frac(_root(b), q))]
    return forms[:2], _keyed(rng, forms)


@family
def multiple_of_pi(rng: Random) -> Forms:
    n = rng.randint(2, 400) * rng.choice([1, 1, -1])
    forms = _fill(
        r"<n>\pi | <n> \pi | <n> \cdot \pi | <n>pi | <n>\,\pi | <n>{\pi} | <n> \times \pi | <n>\pi. | <n>π", n=n
    )
    return forms[:2], [*_keyed(rng, [forms[0], forms[2]]), *forms]


@family
def part_of_pi(rng: Random) -> Forms:
    a, b = _coprime(rng, 12)
    over = _term(a, r"\pi")
    forms = [_frac(over, b), rf"{_frac(a, b)}\pi"]
    return forms, [
        *_keyed(rng, forms),
        *_styled(rng, [f"{over}/{b}", rf"{_frac(a, b)} \pi", rf"{_frac(a, b)} \cdot \pi"]),
    ]


@family
def power_of_e(rng: Random) -> Forms:
    below = r"e^{-<n>} | \frac{1}{e^<n>} | \frac{1}{e^{<n>}} | 1/e^<n> | e^(-<n>) | e**(-<n>)"
    above = r"<k>e^<n> | <k>e^{<n>} | <k> \cdot e^<n> | <k>*e^<n> | <k>*e**<n> | <k> e^<n> | <k>\,e^{<n>}"
    forms = _fill(rng.choice([below, above]), n=rng.randint(2, 9), k=rng.randint(2, 12))
    return forms[:2], forms


@family
def logarithm(rng: Random) -> Forms:
    (b, p), k = rng.sample([2, 3, 5, 7, 11, 13], 2), rng.randint(2, 9)
    natural = r"\ln <p> | \ln(<p>) | \ln{<p>} | \ln\left(<p>\right) | ln(<p>) | ln <p> | \ln\,<p>"
    based = r"\log_{<b>} <p> | \log_{<b>}(<p>) | \log_{<b>}{<p>} | \log_{<b>}\left(<p>\right)"
    based += r" | \log_<b> <p> | \log_<b>(<p>)" * (b < 10)
    around = rng.choice(["<log>", "<k><log>", "<k> + <log>", r"\frac{<log>}{<k>}"])
    forms = [_fill(around, log=log, k=k)[0] for log in _fill(rng.choice([natural, based]), b=b, p=p)]
    return forms[:2], forms


@family
def trigonometric_constant(rng: Random) -> Forms:
    inverse = r"""\arctan \frac{<a>}{<b>} | \arctan\left(\frac{<a>}{<b>}\right) | \tan^{-1} \frac{<a>}{<b>}
        arctan(<a>/<b>) | \arctan(\frac{<a>}{<b>}) | \tan^{-1}\left(\frac{<a>}{<b>}\right) | \arctan{\frac{<a>}{<b>}}"""
    direct = r"""\<f> <n>^\circ | \<f>(<n>^\circ) | \<f>\left(<n>^{\circ}\right) | \<f> <n>° | <f>(<n>°)
        \<f>{<n>^\circ} | \<f>\,<n>^\circ"""
    a, b, f = rng.randint(2, 9), rng.choice([11, 13, 17]), rng.choice(["sin", "cos", "tan"])
    n = rng.choice([10, 20, 25, 35, 40, 50, 55, 70, 80])
    forms = _fill(rng.choice([inverse, direct, direct]), a=a, b=b, f=f, n=n)
    return forms[:2], forms


@family
def complex_number(rng: Random) -> Forms:
    a, b = _signed(rng, 20), _signed(rng, 20)
    forms = [_sum(a, _term(b, "i")), _sum(_term(b, "i"), a)]
    typed = [_sum(a, term) for term in (_term(b, "i", "*"), _term(b, "i", " "), _term(b, r"\mathrm{i}"))]
    return forms, [*_styled(rng, forms), *typed, f"z = {forms[0]}"]


# Expressions and equations.


@family
def polynomial(rng: Random) -> Forms:
    x = rng.choice("xxtna")
    powers = [f"{x}^{k}" for k in range(rng.randint(2, 5), 1, -1)]
    middle = [_term(rng.choice([0, _signed(rng, 15)]), power) for power in powers[1:]]
    terms = [
        _term(_signed(rng, 15), powers[0]),
        *(term for term in middle if term[0] != "0"),
        _term(_signed(rng, 15), x),
    ]
    terms.append(str(_signed(rng, 30)))
    forms = [_sum(*terms), _sum(*terms[::-1]), _sum(*_shuffled(rng, terms))]
    return forms[:1], [*_keyed(rng, forms), *_fill(r"= <p> | <p>. | \displaystyle <p>", p=forms[0])]


@family
def named_polynomial(rng: Random) -> Forms:
    falling = _sum(_term(_signed(rng, 9), "x^2"), _term(_signed(rng, 9), "x"), _signed(rng, 30))
    return [falling], _fill("f(x) = <p> | P(x) = <p> | g(x)=<p>", p=falling)


@family
def factored_polynomial(rng: Random) -> Forms:
    (a, b), k = _distinct(rng, 2, 9), rng.choice([1, 2, 3, 5])
    expanded = _sum(_term(k, "x^2"), *([_term(k * (a + b), "x")] if a + b else []), k * a * b)
    forms = r"<k>(<f>)(<g>) | <k>(<g>)(<f>) | <k>(<f>) \cdot (<g>)"
    forms = [expanded, *_fill(forms, k=k if k > 1 else "", f=_sum("x", a), g=_sum("x", b))]
    return forms[:2], _keyed(rng, forms)


@family
def square_of_a_binomial(rng: Random) -> Forms:
    a, k = _signed(rng, 12), rng.randint(1, 4)
    expanded = _sum(_term(k * k, "x^2"), _term(2 * k * a, "x"), a * a)
    inner = [_sum(_term(k, "x"), a), _sum(a, _term(k, "x")), _sum(_term(-k, "x"), -a)]
    forms = [f"({inner[0]})^2", expanded, *(f"({other})^2" for other in inner[1:])]
    return forms[:2], _keyed(rng, forms)


@family
def two_variables(rng: Random) -> Forms:
    a, b, c = (_signed(rng, 9) for _ in range(3))
    terms = [_term(a, "x^2y"), _term(b, "xy"), _term(c, "y^2")]
    forms = [_sum(*terms), _sum(*terms[::-1]), f"y({_sum(_term(a, 'x^2'), _term(b, 'x'), _term(c, 'y'))})"]
    turned = _sum(_term(a, "yx^2"), _term(b, "yx"), _term(c, "y^2"))
    dotted = _sum(_term(a, r"x^2 \cdot y"), _term(b, r"x \cdot y"), _term(c, "y^2"))
    return forms[:2], [*_styled(rng, forms), *map(_plain, forms[:2]), turned, dotted]


@family
def difference_of_squares(rng: Random) -> Forms:
    a, b = _coprime(rng, 7)
    forms = "<aa> - <bb> | (<a> + <b>)(<a> - <b>) | (<a> - <b>)(<b> + <a>) | -<bb> + <aa>"
    forms = _fill(forms, a=_term(a, "x"), b=_term(b, "y"), aa=_term(a * a, "x^2"), bb=_term(b * b, "y^2"))
    return forms[:2], _keyed(rng, forms)


@family
def rational_expression(rng: Random) -> Forms:
    a, d = _signed(rng, 9), rng.randint(1, 9)
    b = rng.choice([b for b in range(-9, 10) if b not in (0, a * d)])
    above, against, below, less = _sum(_term(a, "x"), b), _sum(_term(-a, "x"), -b), _sum("x", d), _sum("-x", -d)
    forms = [_frac(above, below), _frac(_sum(b, _term(a, "x")), _sum(d, "x")), _frac(against, less)]
    return forms[:2], _keyed(rng, [*forms, f"-{_frac(against, below)}", f"-{_frac(above, less)}"])


@family
def partial_fractions(rng: Random) -> Forms:
    (a, b), p, q = rng.sample(range(1, 9), 2), rng.randint(1, 9), rng.randint(1, 9)
    first, second = _frac(p, _sum("x", a)), _frac(q, _sum("x", b))
    whole = _frac(_sum(_term(p + q, "x"), p * b + q * a), f"({_sum('x', a)})({_sum('x', b)})")
    forms = [f"{first} + {second}", f"{second} + {first}", whole]
    return forms, _keyed(rng, forms)


@family
def fraction_of_a_power(rng: Random) -> Forms:
    (a, b), k = _coprime(rng, 12), rng.randint(2, 5)
    above = r"\frac{<n>}{<b>} | \frac{<a>}{<b>}x^<k> | <n>/<b> | \frac{<a>}{<b>} \cdot x^<k>"
    below = r"\frac{<a>}{x^<k>} | <inverse> | \frac{<a>}{x^{<k>}} | <a>/x^<k>"
    inverse = _term(a, f"x^{{-{k}}}")
    forms = _fill(rng.choice([above, below]), a=a, b=b, k=k, n=_term(a, f"x^{k}"), inverse=inverse)
    return forms[:2], _keyed(rng, forms)


@family
def root_of_a_variable(rng: Random) -> Forms:
    forms = r"""<a>\sqrt{x} | <a> \sqrt{x} | <a>x^{1/2} | <a>x^{\frac{1}{2}} | \sqrt{x} \cdot <a> | <a>√x | <a>*sqrt(x)
        <a>\sqrt x | <a>sqrt(x) | <a>\cdot\sqrt{x}"""
    forms = _fill(forms, a=rng.randint(2, 20))
    return forms[:1], forms


@family
def line(rng: Random) -> Forms:
    m, b = rng.choice([1, -1]) * rng.randint(2, 12), _signed(rng, 20)
    x, less = _term(m, "x"), _term(-m, "x")
    right, turned = _sum(x, b), _sum(b, x)
    forms = [f"y = {right}", f"y = {turned}", f"{right} = y", f"{_sum('y', less)} = {b}", f"{right} - y = 0"]
    forms += [f"{_sum(x, '-y', b)} = 0", f"{_sum(x, '-y')} = {-b}", f"{_sum('y', -b)} = {x}"]
    return forms[:2], [*_keyed(rng, forms), right, turned]


@family
def line_in_general_form(rng: Random) -> Forms:
    (a, b), k = _coprime(rng, 9), _signed(rng, 9)
    x, y, c = _term(a, "x"), _term(b, "y"), b * k
    forms = [f"{_sum(x, f'-{y}', c)} = 0", f"{x} - {y} = {-c}", f"{y} = {_sum(x, c)}", f"{_sum(f'-{x}', y, -c)} = 0"]
    return forms[:2], _keyed(rng, [*forms, f"y = {_sum(_frac(a, b) + 'x', k)}", f"y = {_sum(_frac(x, b), k)}"])


@family
def circle(rng: Random) -> Forms:
    h, k, r = _signed(rng, 9), _signed(rng, 9), rng.randint(2, 12)
    forms = "<x> + <y> = <r> | <y> + <x> = <r> | <r> = <x> + <y> | <x> + <y> - <r> = 0"
    forms = _fill(forms, x=f"({_sum('x', -h)})^2", y=f"({_sum('y', -k)})^2", r=r * r)
    expanded = _sum("x^2", "y^2", _term(-2 * h, "x"), _term(-2 * k, "y"), h * h + k * k - r * r)
    return forms[:1], _keyed(rng, [*forms, f"{expanded} = 0"])


@family
def parabola(rng: Random) -> Forms:
    h, k, a = _signed(rng, 9), _signed(rng, 30), _signed(rng, 5)
    vertex = _sum(_term(a, f"({_sum('x', -h)})^2"), k)
    expanded = _sum(_term(a, "x^2"), _term(-2 * a * h, "x"), a * h * h + k)
    forms = [f"y = {vertex}", f"y = {expanded}", f"{expanded} = y", expanded]
    return forms[:2], _keyed(rng, forms)


# Several values.


def _values(rng: Random, count: int) -> tuple[list[str], list[str]]:
    """Different small values, and the same with a fraction as a decimal."""
    numbers = [Fraction(number) for number in _distinct(rng, count)]
    if rng.random() < 0.4:
        numbers[0] = Fraction(rng.choice([1, 3, 7, 9, 11]), rng.choice([2, 4, 5]))
    typed = [_frac(n.numerator, n.denominator) if n.denominator > 1 else str(n) for n in numbers]
    return typed, [_decimal(n) for n in numbers]


@family
def set_of_values(rng: Random) -> Forms:
    typed, decimals = _values(rng, rng.randint(2, 4))
    forms = [rf"\{{{', '.join(_shuffled(rng, values))}\}}" for values in (typed, typed, decimals)]
    braces = rf"\lbrace {', '.join(_shuffled(rng, typed))} \rbrace"
    return [rf"\{{{', '.join(typed)}\}}", rf"\{{{','.join(typed)}\}}"], [*_styled(rng, forms), braces]


@family
def list_of_values(rng: Random) -> Forms:
    typed, decimals = _values(rng, rng.randint(2, 4))
    forms = [", ".join(_shuffled(rng, values)) for values in (typed, typed, decimals)]
    joined = [
        and_.join(form.rsplit(", ", 1)) for form in forms for and_ in (" and ", r" \text{ and } ", r"\text{ and }")
    ]
    joined += [", and ".join(form.rsplit(", ", 1)) for form in forms if len(typed) > 2]
    return [", ".join(typed), ",".join(typed)], [*_styled(rng, forms), *joined]


@family
def list_of_solutions(rng: Random) -> Forms:
    typed, _ = _values(rng, 2)
    a, b = _shuffled(rng, typed)
    forms = r"""x = <a>, x = <b> | x = <a>, <b> | x=<a>, x=<b> | x = <a> and x = <b> | x = <a> or x = <b>
        x = <a> \text{ or } x = <b> | x = <a> \text{ and } x = <b> | x = <a> \quad \text{or} \quad x = <b>"""
    return [", ".join(typed)], _fill(forms, a=a, b=b)


@family
def list_of_roots(rng: Random) -> Forms:
    roots = [*map(_root, rng.sample(SQUAREFREE, 2)), str(_signed(rng, 9))]
    keys = [re.sub(r"\\sqrt\{(\d+)\}", r"√\1", root) for root in roots]
    return [", ".join(roots)], [*_styled(rng, [", ".join(_shuffled(rng, roots))]), ", ".join(_shuffled(rng, keys))]


@family
def point(rng: Random) -> Forms:
    typed, decimals = _values(rng, rng.randint(2, 3))
    forms = [f"({', '.join(values)})" for values in (typed, decimals)]
    return [forms[0], rf"\left({', '.join(typed)}\right)"], [*_styled(rng, forms), ", ".join(typed), f"{forms[0]}."]


@family
def points(rng: Random) -> Forms:
    a, b = (f"({x}, {y})" for x, y in zip(_distinct(rng, 2), _distinct(rng, 2), strict=True))
    forms = _fill(r"<a>, <b> | <b>, <a> | <b> and <a> | <a> \text{ and } <b>", a=a, b=b)
    return forms[:1], [*_styled(rng, forms[:2]), *forms[2:]]


@family
def named_values(rng: Random) -> Forms:
    points = ("(<a>, <b>)", "(x, y) = <v> | (x,y)=<v> | P = <v>")
    sets = (r"\{<a>, <b>\}", r"S = <v> | x \in <v>")
    vectors = (r"\begin{pmatrix} <a> \\ <b> \end{pmatrix}", r"\vec{v} = <v>")
    form, names = rng.choice([points, sets, vectors])
    a, b = _distinct(rng, 2)
    values = _fill(form, a=a, b=b)
    return values, _fill(names, v=values[0])


@family
def interval(rng: Random) -> Forms:
    low, high = sorted(_distinct(rng, 2))
    (left, less, more), (right, least, most) = rng.choice([("(<>", "]≤≥"), ("[≤≥", ")<>"), ("[≤≥", "]≤≥")])
    forms = r"<l><a>, <b><r> | \left<l><a>, <b>\right<r> | x \in <l><a>, <b><r>"
    forms = _fill(forms, l=left, r=right, a=low, b=high)
    between = [f"{low} {less} x {least} {high}", f"{high} {most} x {more} {low}"]
    latex = [form.replace("≤", r"\le").replace("≥", r"\ge") for form in between]
    keys = [form.replace("≤", "<=").replace("≥", ">=") for form in between]
    return forms[:2], [*_styled(rng, forms[:1]), *forms[1:], *_styled(rng, latex), *keys]


@family
def inequality(rng: Random) -> Forms:
    a = rng.choice([str(_signed(rng, 20)), _frac(rng.randint(1, 20) * 2 + 1, 2)])
    more = r"x > <a> | <a> < x | (<a>, \infty) | x \in (<a>, \infty) | (<a>, +\infty) | x><a>"
    least = r"x \ge <a> | <a> \le x | [<a>, \infty) | x \in [<a>, \infty) | [<a>, +\infty) | x >= <a>"
    less = r"x < <a> | <a> > x | (-\infty, <a>) | x \in (-\infty, <a>) | x<<a>"
    most = r"x \le <a> | <a> \ge x | (-\infty, <a>] | x \in (-\infty, <a>] | x <= <a>"
    forms = _fill(rng.choice([more, least, less, most]), a=a)
    return forms[:3], [*_styled(rng, forms[:3]), *forms[3:]]


@family
def union(rng: Random) -> Forms:
    a, b = sorted(_distinct(rng, 2))
    (left, less), (right, more) = rng.choice([")<", "]≤"]), rng.choice(["(>", "[≥"])
    low, high = rf"(-\infty, {a}{left}", rf"{right}{b}, \infty)"
    words = [f"x {less} {a} or x {more} {b}", f"x {more} {b} or x {less} {a}"]
    keys = [form.replace("≤", "<=").replace("≥", ">=") for form in words]
    typed = [form.replace("≤", r"\le").replace("≥", r"\ge").replace("or", r"\text{ or }") for form in words]
    forms = [rf"{low} \cup {high}", rf"{high} \cup {low}"]
    return [forms[0], typed[0]], [*_styled(rng, forms), *_styled(rng, typed), *keys, rf"x \in {forms[0]}"]


@family
def plus_or_minus(rng: Random) -> Forms:
    n = rng.choice([str(rng.randint(1, 30)), _root(rng.choice(SQUAREFREE)), f"{rng.randint(2, 9)}i"])
    forms = (
        r"\pm <n> | <n>, -<n> | -<n>, <n> | \{-<n>, <n>\} | ±<n> | x = \pm <n> | <n> and -<n> | <n> \text{ and } -<n>"
    )
    forms = _fill(forms, n=n)
    if rng.random() < 0.5:
        return forms[:1], [*_styled(rng, forms[:4]), *forms[4:]]
    return forms[1:3], [*_styled(rng, forms[:3]), *forms[4:]]


@family
def pair_of_roots(rng: Random) -> Forms:
    q, n = rng.choice([2, 3, 5, 7]), rng.choice(SQUAREFREE)
    a = rng.choice([a for a in range(-12, 13) if a % q])
    around = rng.choice([r"<a> <s> \sqrt{<n>}", r"\frac{<a> <s> \sqrt{<n>}}{<q>}"])
    both, plus, minus = (_fill(around, a=a, n=n, q=q, s=sign)[0] for sign in (r"\pm", "+", "-"))
    forms = [both, f"{plus}, {minus}", f"{minus}, {plus}"]
    return forms[:2], [*_styled(rng, forms), f"x = {both}"]


@family
def matrix(rng: Random) -> Forms:
    columns, rows = rng.choice([(2, 2), (2, 2), (3, 2), (1, 3), (1, 2), (2, 3)])
    typed, decimals = zip(*(_values(rng, columns) for _ in range(rows)), strict=True)
    inner, other = (r" \\ ".join(" & ".join(row) for row in table) for table in (typed, decimals))
    forms = r"""\begin{pmatrix} <m> \end{pmatrix} | \begin{bmatrix} <m> \end{bmatrix}
        \begin{pmatrix}<tight>\end{pmatrix} | \begin{bmatrix}<tight>\end{bmatrix} | \begin{pmatrix}<lines>\end{pmatrix}
        \begin{pmatrix} <other> \end{pmatrix}
        \left[\begin{array}{<c>} <m> \end{array}\right] | \left(\begin{array}{<c>} <m> \end{array}\right)"""
    tight, lines = inner.replace(" & ", "&").replace(r" \\ ", r"\\"), "\n" + inner.replace(r"\\ ", "\\\\\n") + "\n"
    forms = _fill(forms, m=inner, tight=tight, other=other, c="c" * columns, lines=lines)
    return forms[:2], forms


# Letters and words.


@family
def option(rng: Random) -> Forms:
    letter = rng.choice("ABCDEFGHIJ")
    forms = r"""<L> | (<L>) | \text{<L>} | \text{(<L>)} | <l> | <L>. | \textbf{(<L>)} | \textbf{<L>} | \mathbf{<L>}
        <L>) <n> | option <L> | Option <L> | (<L>) <n> | \mathrm{(<L>)} | \textbf{(<L>) }<n> | <L>: <n> <things>"""
    forms = _fill(forms, L=letter, l=letter.lower(), n=rng.randint(2, 90), things=rng.choice(THINGS))
    return forms[:4], forms


@family
def option_with_text(rng: Random) -> Forms:
    letter, text = rng.choice("ABCDEFGHIJ"), f"{rng.randint(2, 90)} {rng.choice(THINGS)}"
    forms = r"""<L>: <t> | <L> | (<L>) | <L>. | <L>) <t> | (<L>) <t> | option <L> | <L>. <t> | \text{<L>} | <l>
        \textbf{(<L>)} | \textbf{(<L>)} <t>"""
    forms = _fill(forms, L=letter, t=text, l=letter.lower())
    return forms[:1], forms


ADJECTIVES = _fill(
    "blue | isosceles | even | heavy | northern | acute | hollow | green | parallel | regular | narrow | wooden"
)
NOUNS = _fill("triangle | whale | number | circle | prism | river | cube | garden | function | kite | bridge | violin")
NAMES = _fill("Evelyn | Tuesday | Boris | Lisbon | Amira | Saturn | Pascal | Oslo | Zoe | November | Euler | Kenji")


@family
def word(rng: Random) -> Forms:
    text = rng.choice([rng.choice(NAMES), rng.choice(ADJECTIVES), rng.choice(NOUNS)])
    cased = rng.choice([text, text.lower(), text.upper(), text.capitalize()])
    answers = _fill(
        r"<w> | <w>. | \text{<w>} | \textbf{<w>} | \mathrm{<w>} | \text{<w>.} | \text{ <w> } | \textit{<w>}", w=cased
    )
    return _fill(r"<w> | \text{<w>}", w=text), answers


@family
def two_words(rng: Random) -> Forms:
    a, b = rng.choice(ADJECTIVES), rng.choice(NOUNS)
    forms = r"""<w> | \text{<w>} | <W> | <w>. | \text{<W>} | \textbf{<w>} | \text{<w>.} | <T>
        \text{<a>}\ \text{<b>} | \text{<a>~<b>} | <U> | <narrow>"""
    w = f"{a} {b}"
    forms = _fill(forms, w=w, W=w.capitalize(), T=w.title(), U=w.upper(), a=a, b=b, narrow=f"{a}\u00a0{b}")
    return forms[:3], forms


@family
def words_with_apostrophe(rng: Random) -> Forms:
    text = f"{rng.choice(NAMES)}'s {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    forms = [text, text.replace("'", "’"), text.lower(), rf"\text{{{text}}}", text.upper().replace("'", "’")]
    return forms[:2], forms
