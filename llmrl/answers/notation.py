r"""Notation: an answer written plainly, whatever LaTeX, Markdown or typography it comes in.

    $\dfrac{1}{2}\,\text{ km}.$  ->  \frac{1}{2} "km"

What is left: ASCII and a few commands, texts in quotes, no spaces at the ends. What nobody writes in mathematics stays
as it is, and is compared as text: look-alike letters, digits of other scripts, letters of no width, unknown commands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau"
SIGNS = {
    "−‐‑–": "-",
    "×✕": r"\times ",
    "·⋅∙•": r"\cdot ",
    "÷⁄∕": "/",
    "°": r"^\circ ",
    "∞": r"\infty ",
    "≤⩽": r"\le ",
    "≥⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "±": r"\pm ",
    "∪": r"\cup ",
    "∅": r"\emptyset ",
    "∈": r"\in ",
    "ℝ": r"\mathbb{R}",
    "‘’′": "'",
    "“”": '"',
    "∶": ":",
    "…": r"\ldots ",
    "\u00a0\u2002\u2003\u2007\u2009\u202f": " ",
    "θϑ": r"\theta ",
    "φϕ": r"\phi ",
    "ψ": r"\psi ",
    "ω": r"\omega ",
}
TYPOGRAPHY = {ord(sign): plain for signs, plain in SIGNS.items() for sign in signs}
TYPOGRAPHY |= {
    ord(unicodedata.lookup(f"GREEK SMALL LETTER {name.replace('lambda', 'lamda')}")): f"\\{name} "
    for name in GREEK.split()
}
for one in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞":
    TYPOGRAPHY[ord(one)] = "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", one).split("⁄"))
RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ"
LOWERED = str.maketrans(RAISED, "0123456789-n")

ALIASES = {
    alias: plain
    for plain, aliases in {
        "\\le ": "leq leqslant", "\\ge ": "geq geqslant", "<": "lt", ">": "gt", "\\ne ": "neq", "\\{": "lbrace",
        "\\}": "rbrace", "[": "lbrack", "]": "rbrack", "|": "vert lvert rvert mid", ":": "colon", "*": "ast",
        "\\ldots ": "dots cdots dotsc", "\\emptyset ": "varnothing", "(": "langle", ")": "rangle", "/": "div",
        "\\frac": "dfrac tfrac cfrac", "\\approx ": "sim simeq", "\\phi ": "varphi", "\\theta ": "vartheta",
        "\\epsilon ": "varepsilon", "€": "euro", "£": "pounds", "i ": "imath", "\\overline": "bar", "\\cup ": "bigcup",
        " and ": "land", " or ": "lor", "\\mathbb{R}": "R",
    }.items()
    for alias in aliases.split()
}  # fmt: skip
IGNORED = r"left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|rm|bf"
SPACES = r"quad|qquad|thinspace|enspace|medspace|thickspace|space|hfill"
COMMAND = re.compile(r"\\([A-Za-z]+)")
ROMAN = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mathrm|mathsf|mathtt|mbox|hbox|operatorname\*?|emph) ?\{([^{}]*)\}"
)
SYMBOLS = re.compile(r"\\(?:mathbf|mathit|boldsymbol|bm|mathcal) ?\{([^{}]*)\}")
REPLACED: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (
        re.compile(r"√ ?(\d+(?:\.\d+)?|[A-Za-z]|(?=[({]))", re.ASCII),
        lambda found: f"\\sqrt{{{found[1]}}}" if found[1] else r"\sqrt",
    ),
    (re.compile(r"(?<=[\w)}])\*\*(?=[\w({-])", re.ASCII), "^"),
    (re.compile(r"\{(\d+)\} ?/ ?\{(\d+)\}", re.ASCII), r"\1/\2"),
    (re.compile(r"((?:^|=) ?)\{([\d.,]+)\}(?! ?\{)", re.ASCII), r"\1\2"),
    (re.compile(f"[{RAISED}]+"), lambda found: f"^{{{found[0].translate(LOWERED)}}}"),
    # Of a number whose digits are grouped in threes.
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))", re.ASCII), ""),
    (re.compile(r"(?<=\d)\\[,; ](?=\d{3}(?!\d))", re.ASCII), " "),
    (re.compile(rf"\\(?:{IGNORED})(?![A-Za-z])|\\!"), ""),
    (re.compile(rf"(?<!\\)\\[,;: >]|~|\\(?:{SPACES})(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:boxed|fbox) ?(?=\{)"), ""),
    (COMMAND, lambda found: ALIASES.get(found[1], found[0])),
    (ROMAN, lambda found: roman(found[1])),
    (re.compile(r"\{:\}"), ":"),
    (SYMBOLS, r"{\1}"),
    (re.compile(r"[\[(]? ?\\begin ?\{array\} ?\{[lcr| ]*\}"), r"\\begin{pmatrix}"),
    (re.compile(r"\\end ?\{array\} ?[\])]?"), r"\\end{pmatrix}"),
    (re.compile(r"\^ ?(?:\{ ?\\(?:circ|degree) ?\}|\\(?:circ|degree)(?![A-Za-z]))|\\degree(?![A-Za-z])"), r"^\\circ "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])", re.IGNORECASE), r"\\infty "),
    (re.compile(r"\+ ?(?=\\infty)"), ""),
    (re.compile(r"\s+"), " "),
]
LEADING = re.compile(r"(?:=|\\approx|:)\s*")
FUNCTIONS = (
    *("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
    *("log", "ln", "exp", "sqrt"),
)


@lru_cache(maxsize=2**12)
def normalized(text: str) -> str:
    r"""An answer in plain notation. It takes time in proportion to the text.

    >>> normalized(r"$\dfrac{1}{2}\,\text{ km}.$"), normalized("**10,000**"), normalized("90°")
    ('\\frac{1}{2} "km"', '10,000', '90^\\circ')
    """
    text = text.translate(TYPOGRAPHY).replace("\\(", "").replace("\\)", "").replace("\\[", "").replace("\\]", "")
    dollars = text.count("$") - text.count("\\$")
    if dollars % 2 == 0:  # of formulas; else of money
        text = re.sub(r"(?<!\\)\$", "", text)
    text = text.replace("\\$", "$")
    for pattern, by in REPLACED:
        text = pattern.sub(by, text)
    text = text.strip(" *`")
    while text and text != (shorter := unclosed(LEADING.sub("", text, count=1) if LEADING.match(text) else text)):
        text = shorter
    return text


def unclosed(text: str) -> str:
    """Without what closes a sentence, and without the braces or parentheses that hold the whole."""
    if text.endswith((".", ",", ";")) and not text.endswith(".."):
        text = text[:-1]
    text = text.strip()
    return text[1:-1].strip() if enclosed(text, "{}") or (enclosed(text, "()") and "," not in text) else text


def enclosed(text: str, pair: str) -> bool:
    """Whether a pair of brackets holds the whole text.

    >>> enclosed("{a}{b}", "{}"), enclosed("{a{b}}", "{}")
    (False, True)
    """
    if not (text.startswith(pair[0]) and text.endswith(pair[1])):
        return False
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == pair[0]) - (letter == pair[1])
        if depth == 0:
            return place == len(text) - 1
    return False


def roman(text: str) -> str:
    """What stands upright: a function, a number or a constant as it is, another text in quotes."""
    words = text.strip(" .")
    if words in FUNCTIONS and words != "sec":  # seconds
        return f"\\{words} "
    plainly = words in ("e", "i") or re.search(r"[\d\\]", words) or not re.search("[A-Za-z]", words)
    return words if plainly else f' "{words}" '


def squeezed(text: str) -> str:
    """A text without spaces that mean nothing, quotes and the braces that hold one letter: what equal writings share.

    >>> squeezed('x ^ {2}  + 1'), squeezed("1 2")
    ('x^2+1', '1 2')
    """
    text = re.sub(r"\{([A-Za-z\d])\}", r"\1", text.replace('"', ""))
    return re.sub(r"(?<![A-Za-z\d]) +| +(?![A-Za-z\d])", "", text.strip())
