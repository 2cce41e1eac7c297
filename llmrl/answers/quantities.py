r"""Numbers in every usual writing, by their exact value, with the unit that is named.

    10,000   -3.50   \frac{1}{2}   1 1/2   3 \times 10^8   0.\overline{3}   $5 million   twelve   90^\circ   132 "km"

A noun after a number is its unit; a letter is a variable, and what makes another number of it is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

DIGITS = r"(?:[1-9]\d{0,2}(?:[ ,']\d{3})+(?!\d)|\d+)"
DECIMAL = rf"(?:{DIGITS}(?:\.\d+)?|\.\d+)"
POWER = r"[+-]?\d{1,3}"
PART = rf"(?:\{{ ?([+-]? ?{DIGITS}) ?\}}|(\d))"
WRITTEN = {
    kind: re.compile(pattern, re.ASCII)
    for kind, pattern in {
        "mixed": rf"({DIGITS}) ?(?:\\frac ?{PART} ?{PART}|(?<= )(\d+) ?/ ?(\d+))",
        "fraction": rf"\\frac ?{PART} ?{PART}|({DIGITS}) ?/ ?({DIGITS})(?! ?[\d./])",
        "repeating": r"(\d*)\.(\d*)(?:\\(?:overline|dot) ?(?:\{(\d+)\}|(\d))|\((\d+)\))",
        "dots": r"(\d*)\.(\d+) ?(?:\.\.\.|\\ldots)",
        "scientific": rf"(?:({DECIMAL}) ?(?:\\times|\\cdot|\*|x) ?)?10 ?\^ ?(?:\{{ ?({POWER}) ?\}}|({POWER}))",
        "exponential": rf"({DECIMAL})[eE]([+-]?\d{{1,3}})(?!\d)",
        "decimal": rf"({DECIMAL})(?![\d.])",
    }.items()
}
SIGN = re.compile(r"([+-]?) ?[$€£¥₹]? ?([+-]?) ?")
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
SCALE = re.compile(rf' ?"?({"|".join(SCALES)})s?(?![A-Za-z])"?', re.IGNORECASE)
SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = {word: number for number, word in enumerate(SMALL)} | {word: 10 * ten for ten, word in enumerate(TENS, 2)}
WORDED = re.compile(
    rf'"?(?:({"|".join(TENS)})(?:[ -]({"|".join(SMALL[1:10])}))?|({"|".join(SMALL)}))(?![A-Za-z])"?', re.IGNORECASE
)
PARTS_OF = {"hal": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
FRACTION = re.compile(  # three-fourths
    rf'"?(an?|{"|".join(SMALL[1:10])})[ -]({"|".join(PARTS_OF)})(?:f|ves|s)?(?![A-Za-z])"?', re.IGNORECASE
)

# A unit's usual names; of one that is not here the plural counts as the singular.
NAMES = {
    "%": "percent pct", "degree": r"^\circ deg", "$": "dollar usd", "€": "euro eur", "¥": "yen jpy", "¢": "cent",
    "₹": "rupee inr", "m": "meter metre", "cm": "centimeter centimetre", "mm": "millimeter millimetre",
    "km": "kilometer kilometre Km", "in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile", "g": "gram",
    "kg": "kilogram kilo kgs Kg", "mg": "milligram", "oz": "ounce", "l": "liter litre L", "gal": "gallon",
    "lb": "pound lbs £ gbp",  # of which a pound may be either
    "ml": "milliliter millilitre mL", "s": "second sec secs", "min": "minute mins", "h": "hour hr hrs", "N": "newton",
    "J": "joule", "W": "watt", "kW": "kilowatt", "V": "volt", "A": "ampere amp", "Hz": "hertz", "K": "kelvin",
    "Pa": "pascal", "Ω": "ohm", "Å": "angstrom", "T": "tesla", "C": "celsius", "F": "fahrenheit", "mol": "mole",
    "rad": "radian", "mi/h": "mph", "km/h": "kph kmh", "person": "people", "child": "children", "man": "men",
    "woman": "women",
}  # fmt: skip
UNITS = {name: unit for unit, names in NAMES.items() for name in (unit, *names.split())}
# What may follow a number and is no unit of it: words of a sentence, and what makes another number of it …
NO_UNITS = {*SCALES, *WORDS} | {
    word
    for words in (
        "about above almost and answer apart approximately are around as at be because below between bn but by choose",
        "cos crore cubed divided double doubles e else equals from given halve halves hence if incorrect instead is",
        "it lakh less ln log maximum maybe mega mil milli minimum minus mio mln mod modulo myriad nearly neither",
        "never no none nor not off only option or otherwise over perhaps pi plus sin sqrt squared subtract tan than",
        "that then therefore thou tn to too triple triples twice unknown unless until versus was were when where",
        "which with wrong x y yes",
    )
    for word in words.split()
}
# … and what is none alone, but may go with one: even numbers, third graders.
NO_HEADS = {
    word
    for words in (
        "even factorial false half least most negative odd point positive power quarter remainder right root third",
        "true",
    )
    for word in words.split()
}
ADDED = {  # to an amount, and no part of its unit
    *("left", "more", "total", "altogether", "remaining", "each", "time", "needed", "used", "earned", "saved"),
    *("required", "worked", "traveled", "baked", "collected"),
}
TIDIED = [
    (re.compile('"'), " "),
    (re.compile(r"\^ ?\{ ?(-?\d) ?\}"), r"^\1"),
    (re.compile(r" +(?=\^-?\d)"), ""),
    (re.compile("per cent"), "percent"),
    (re.compile(r"\( *([A-Za-z %^\d]+?) *\)"), r"\1"),
    (re.compile(r"([A-Za-z]+) squared"), r"\1^2"),
    (re.compile(r"([A-Za-z]+) cubed"), r"\1^3"),
    (re.compile(r" *\\cdot *"), "-"),
    (re.compile(r" an? (?=(?:day|hour|week|month|year|minute|second)\b)|(?<=\S) per "), "/"),
    (re.compile(r" */ *"), "/"),
    (re.compile(r"\\Omega"), "Ω"),
]
PLURALS = {"ies": "y", "ses": "s", "xes": "x", "ches": "ch", "shes": "sh", "s": ""}
POWERS = {"square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3"}
PARTS = re.compile(  # tenths
    r"(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|[a-z]+teen|[a-z]+tie|hundred|[a-z]*thousand|[a-z]+illion)th(s?)"
    r"|third(s)|hal(f|ves)"
)
CHANGED = re.compile(r"[a-z]{3,}(?<!e)ed|(?!family)[a-z]{3,}ly|[a-z]+fold")  # doubled, roughly; but a bed
UNIT = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*(?:\^-?\d)?(?:/[^\W\d_]+(?:\^-?\d)?)?|[$€£¥₹¢%](?:/[A-Za-z]+)?|\^\\circ")
GLUED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")  # words of scripts that set no spaces


@dataclass(frozen=True)
class Quantity:
    """A number, its unit ("" where none is named) and what of its writing matters: whether a fraction has its lowest
    terms, whether decimals repeat (`dots`: they go on as one guesses).
    """

    value: Fraction
    unit: str = ""
    in_lowest_terms: bool = True
    repeats: bool = False
    dots: bool = False


def equal(gold: Quantity, answer: Quantity) -> bool:
    """Whether an answer is the number that is wanted. A unit that only one of them names is no mistake; a percent sign
    of the gold answer admits both readings, one of the answer alone means a share where the gold is at most 1.
    """
    if not answer.in_lowest_terms or (answer.dots and not gold.repeats) or not same_unit(gold.unit, answer.unit):
        return False
    values = {gold.value, gold.value / 100} if gold.unit == "%" != answer.unit else {gold.value}
    share = answer.unit == "%" != gold.unit and abs(gold.value) <= 1
    return (answer.value / 100 if share else answer.value) in values


def same_unit(one: str, other: str) -> bool:
    """Whether two units agree: they are the same, or only one is named."""
    return not one or not other or one == other


@lru_cache(maxsize=2**12)
def quantity(text: str) -> Quantity | None:
    r"""The quantity that a text in plain notation is, and nothing else.

    >>> quantity("$1,072"), quantity("47 + 85")
    (Quantity(value=Fraction(1072, 1), unit='$', in_lowest_terms=True, repeats=False, dots=False), None)
    """
    start = SIGN.match(text)
    if start is None or (start[1] and start[2]):
        return None
    money, rest = start[0].strip(" +-"), text[start.end() :]
    for number, after in beginnings(rest):
        scale = SCALE.match(rest, after)
        factor = SCALES[scale[1].lower()] if scale and number.in_lowest_terms else 1
        named = unit(" " * bool(money) + rest[scale.end() if scale else after :])
        if named is not None and not (named == "quarter" and number.value < 4):  # three quarters
            negative = "-" in start[0]
            return replace(
                number,
                value=number.value * factor * (-1 if negative else 1),
                unit=UNITS[money] if money else named,
                in_lowest_terms=number.in_lowest_terms and not (negative and number.value < 0),
            )
    return None


def beginnings(text: str) -> Iterator[tuple[Quantity, int]]:
    """The numbers, without sign and unit, with which a text may begin, each with the place where it ends."""
    for kind, pattern in WRITTEN.items():
        if found := pattern.match(text):
            groups = [re.sub("[ ,']", "", group) for group in found.groups() if group is not None]
            if number := from_groups(kind, groups):
                yield number, found.end()
    if words := FRACTION.match(text):
        above, below = WORDS.get(words[1].lower(), 1), PARTS_OF[words[2].lower()]
        yield Quantity(Fraction(above, below), in_lowest_terms=math.gcd(above, below) == 1), words.end()
    if words := WORDED.match(text):
        yield in_words(words[1] or words[3], words[2]), words.end()


def from_groups(kind: str, groups: list[str]) -> Quantity | None:
    """The number that a writing's parts make, if they make one."""
    match kind, groups:
        case "mixed", [whole, above, below]:
            part = fraction(above, below)
            proper = part is not None and 0 < part.value < 1
            return replace(part, value=int(whole) + part.value) if part and proper else None
        case "fraction", [above, below]:
            return fraction(above, below)
        case "repeating", [whole, once, again]:
            period = Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(once))
            return Quantity(Fraction(f"{whole or 0}.{once or 0}") + period, repeats=True)
        case "dots", [whole, once]:
            lengths = range(1, len(once) // 2 + 1)
            guessed = [once[-n:] for n in lengths if once.endswith(once[-n:] * 2)]
            number = from_groups("repeating", [whole, once, guessed[0]]) if guessed else None
            return replace(number, dots=True) if number else None
        case "scientific" | "exponential", [*mantissa, power]:
            return Quantity(Fraction(mantissa[0] if mantissa else 1) * Fraction(10) ** int(power))
        case "decimal", [digits]:
            return Quantity(Fraction(digits))
    return None


def fraction(above: str, below: str) -> Quantity | None:
    """A fraction of whole numbers; a whole number in disguise has not its lowest terms."""
    one, other = int(above), int(below)
    if not other:
        return None
    return Quantity(
        Fraction(one, other), in_lowest_terms=math.gcd(one, other) == 1 < abs(other) and max(one, other) > 0
    )


def in_words(word: str, ones: str | None) -> Quantity:
    """A whole number below a hundred: `twelve`, `thirty-two`."""
    return Quantity(Fraction(WORDS[word.lower()] + WORDS[(ones or "zero").lower()]))


def unit(text: str) -> str | None:
    r"""The unit that a text names, in one writing for all its names: "" of nothing, None where it is no unit.

    >>> unit(' "square meters"'), unit(" apples"), unit("cm^2"), unit("x"), unit(" or 133")
    ('m^2', 'apple', 'cm^2', None, None)
    """
    apart, upright = text.startswith((" ", '"', "^", "%")), '"' in text
    for pattern, by in TIDIED:
        text = pattern.sub(by, text)
    words: list[str] = []
    power = ""
    named = text.strip(" ./").split()
    for word in named:
        if word in ("of", "a", "an", "the"):
            continue
        if raised := POWERS.get(word.lower().removesuffix(".")):
            power = raised
        elif is_unit(word.removesuffix("."), apart, upright, head=word is named[-1]):
            words.append(unit_name(word.removesuffix("."), power))
            power = ""
        else:
            return None
    if words[:1] == ["%"]:
        return "%"
    while words and words[-1] in ADDED:
        words.pop()
    return " ".join(words) if len(words) <= 4 and not power else None


def is_unit(word: str, apart: bool, upright: bool, head: bool) -> bool:
    """Whether a word after a number may be a unit, or go with one that is at the `head` of what is named; and no
    variable or product of some: one letter only a unit's that is set apart, an unknown word only if it is, and two
    letters of that kind only upright.
    """
    if not UNIT.fullmatch(word):
        return False
    for part in re.split("[-/]", word.lower()) if head or "-" not in word else ():
        single = part.removesuffix("s")
        if {part, single} & NO_UNITS or (PARTS.fullmatch(part) and (head or part.endswith("s"))):
            return False
        if head and (part in NO_HEADS or (CHANGED.fullmatch(part) and part not in ADDED)):
            return False
    letters = re.match(r"[^\W\d_]*", word)[0]  # type: ignore[index]
    known = letters in UNITS or unit_name(letters, "") in NAMES
    if not letters or GLUED.fullmatch(letters):
        return True
    return (apart and len(letters) > 2 - upright) or (known and (apart or len(letters) > 1))


def unit_name(word: str, power: str) -> str:
    """One writing for a unit of one word. Of short ones the case matters: 5 mW are no 5 MW."""
    above, slash, below = word.partition("/")
    if slash:
        return f"{unit_name(above, power)}/{unit_name(below, '')}"
    word, hat, own = word.partition("^") if not word.startswith("^") else (word, "", "")
    name = word if word in UNITS or len(word) < 4 else word.lower()
    singulars = [name.removesuffix(plural) + single for plural, single in PLURALS.items() if name.endswith(plural)]
    known = [UNITS[one] for one in (name, *singulars) if one in UNITS and (one == name or len(name) > 3)]
    name = (known or (singulars if len(name) > 3 else []) or [name])[0]
    return name + (f"^{own}" if hat else power)
