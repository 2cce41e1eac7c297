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

TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh")
FUNCTIONS = (*TRIGONOMETRIC, "log", "ln", "exp", "sqrt")
GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
    "psi omega"
)
GROUPED = r"[1-9]\d{0,2}(?:,\d{3})+"  # a number whose digits are grouped in threes

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
    "ℤ": r"\mathbb{Z}",
    "‘’′": "'",
    "“”": '"',
    "∶": ":",
    "…": r"\ldots ",
    "\u00a0\u2002\u2003\u2007\u2009\u202f": " ",
    "ϑ": r"\theta ",
    "ϕ": r"\phi ",
}
TYPOGRAPHY = {sign: plain for signs, plain in SIGNS.items() for sign in signs}
TYPOGRAPHY |= {unicodedata.lookup(f"GREEK SMALL LETTER {one.replace('bd', 'd')}"): f"\\{one} " for one in GREEK.split()}
TYPOGRAPHY |= {
    sign: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", sign).split("⁄")) for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n")
LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

ALIASES = {
    alias: plain
    for plain, aliases in {
        "\\le ": "leq leqslant", "\\ge ": "geq geqslant", "<": "lt", ">": "gt", "\\ne ": "neq", "\\{": "lbrace",
        "\\}": "rbrace", "[": "lbrack", "]": "rbrack", "|": "vert lvert rvert mid", ":": "colon", "*": "ast",
        "\\ldots ": "dots cdots dotsc", "\\emptyset ": "varnothing", "(": "langle", ")": "rangle", "/": "div",
        "\\frac": "dfrac tfrac cfrac", "\\binom": "dbinom tbinom", "\\approx ": "sim simeq", "\\phi ": "varphi",
        "\\theta ": "vartheta", "\\epsilon ": "varepsilon", "\\overline": "bar", "\\cup ": "bigcup", "€": "euro",
        "£": "pounds", "i ": "imath", "'": "prime", " and ": "land", " or ": "lor", "\\mathbb{R}": "R", "\\\\": "cr",
    }.items()
    for alias in aliases.split()
}  # fmt: skip
IGNORED = r"left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|rm|bf|[lL]arge|LARGE|[hH]uge|checkmark"
SPACES = r"quad|qquad|thinspace|enspace|medspace|thickspace|space|hfill"
UPRIGHT = r"text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|sf|tt|bf)|mbox|hbox|operatorname\*?|emph"
SLANTED = r"math(?:bf|it|cal)|boldsymbol|bm"

# In this order: each takes what those before it leave.
REPLACED: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\\\\ ?\[[^\]]*\]", r"\\\\"),  # \\[4pt], a row's end
    (r"\\[()]|(?<!\\)\\[\[\]]", ""),  # of formulas
    (r"√ ?(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt{\1}"),
    (r"√", r"\\sqrt"),
    (r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+", lambda found: f"^{in_braces(found[0].translate(RAISED))}"),
    (r"[₀₁₂₃₄₅₆₇₈₉]+", lambda found: f"_{in_braces(found[0].translate(LOWERED))}"),
    (r"(?<=[\w)}])\*\*(?=[\w({-])", "^"),  # x**2
    (r"\{(\d+)\} ?/ ?\{(\d+)\}", r"\1/\2"),
    (r"((?:^|=) ?)\{([\d.,]+)\}(?! ?\{)", r"\1\2"),  # {90}^\circ
    (r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))", ""),  # 10{,}000
    (rf"\\(?:{IGNORED})(?![A-Za-z])|\\!|\\(?:text)?color ?\{{(?!white)[a-z]+\}}|\\underline(?=\{{)", ""),
    (rf"(?<!\\)\\[,;: >]|~|\\(?:{SPACES})(?![A-Za-z])", " "),
    (r"\\(?:boxed|fbox) ?(?=\{)", ""),
    (r"\{([^{}]*)\\choose ([^{}]*)\}", r"\\binom{\1}{\2}"),
    (r"(?<!\d)(\d+) ?\\over ?(\d+)", r"\1/\2"),
    (r"\\([A-Za-z]+)", lambda found: ALIASES.get(found[1], found[0])),
    (rf"\\(?:{SLANTED}) ?\{{([A-Za-z])\}}", r"\1"),  # a vector or a set
    (rf"\\(?:{UPRIGHT}) ?\{{([^{{}}]*)\}}", lambda found: upright(found[1])),
    (rf"\\(?:{SLANTED}) ?\{{([^{{}}]*)\}}", r"{\1}"),
    (r"\{:\}", ":"),
    (r"[\[(]? ?\\begin ?\{array\} ?\{[lcr| ]*\}", r"\\begin{pmatrix}"),
    (r"\\end ?\{array\} ?[\])]?", r"\\end{pmatrix}"),
    (r"\^ ?(?:\{ ?\\(?:circ|degree) ?\}|\\(?:circ|degree)(?![A-Za-z]))|\\degree(?![A-Za-z])", r"^\\circ "),
    (r"\\%", "%"),
    (r"\^ ?\{?'\}?", "'"),
    (r'(?:\( ?)?(?:\\p?b?mod|(?<![A-Za-z\\])mod(?![a-z])|"mod") ?\{? ?([\dA-Za-z]+) ?\}?\)?', r" \\mod \1"),
    (r'(?i)"?all real numbers"?', r"\\mathbb{R}"),
    (r'(?i)"?usd"? ?(?=\d)', "$"),
    (r"(?i)(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])", r"\\infty "),
    (r"\+ ?(?=\\infty)", ""),
    (r"\s+", " "),
    (r"^(-? ?)[({] ?(\\frac ?\{\d+\} ?\{\d+\}|\d+(?:[./]\d+)?) ?[)}]$", r"\1\2"),  # -(1/2)
    (r"^\((-\d+)\)(?= ?/)", r"\1"),
    (r'^"?(?:minus|negative)"? (?="?[\d$€£¥₹.\\A-Za-z])', "-"),
    (r"^\]([^\[\]]+,[^\[\]]+)\[$", r"(\1)"),  # ]0,1[
    (r"^\]([^\[\]]+,[^\[\]]+)\]$", r"(\1]"),
    (r"^\[([^\[\]]+,[^\[\]]+)\[$", r"[\1)"),
]
PATTERNS = [(re.compile(pattern, re.ASCII), by) for pattern, by in REPLACED]
SIGN = re.compile(f"[{''.join(TYPOGRAPHY)}]")
UNIT_POWER = re.compile(r"[A-Za-z/ ]+\^\d")  # cm^2
LEADING = re.compile(r'(?:=|\\approx|:|\\Rightarrow|\\therefore|"(?:final )?answer(?: is)?:?")\s*', re.IGNORECASE)


@lru_cache(maxsize=2**12)
def normalized(text: str) -> str:
    r"""An answer in plain notation. It takes time in proportion to the text.

    >>> normalized(r"$\dfrac{1}{2}\,\text{ km}.$"), normalized("**10,000**"), normalized("90°")
    ('\\frac{1}{2} "km"', '10,000', '90^\\circ')
    """
    text = SIGN.sub(lambda found: TYPOGRAPHY[found[0]], text)
    if (text.count("$") - text.count("\\$")) % 2 == 0:  # of formulas; else of money
        text = re.sub(r"(?<!\\)\$", "", text)
    text = text.replace("\\$", "$")
    for pattern, by in PATTERNS:
        text = pattern.sub(by, text)
    text = text.strip(" *`").removesuffix("\\\\").rstrip()
    text = text[1:-1] if text.startswith("'") and text.endswith("'") else text
    while text and text != (shorter := bare(LEADING.sub("", text, count=1) if LEADING.match(text) else text)):
        text = shorter
    return text


def bare(text: str) -> str:
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


def in_braces(text: str) -> str:
    return text if len(text) == 1 else f"{{{text}}}"


def upright(text: str) -> str:
    """What stands upright: a function, a number or a constant as it is, another text in quotes."""
    words = text.strip(" .")
    if words in FUNCTIONS and words != "sec":  # seconds
        return f"\\{words} "
    plain = words in ("e", "i") or re.search(r"[\d\\]", words) or not re.search("[A-Za-z]", words)
    return words if plain and not UNIT_POWER.fullmatch(words) else f' "{words}" '


def ungrouped(text: str) -> str:
    """Numbers without the commas that group their digits.

    >>> ungrouped("1,072"), ungrouped("1,2"), ungrouped("0,132")
    ('1072', '1,2', '0,132')
    """
    return re.sub(rf"(?<![\d.,]){GROUPED}(?![\d,])", lambda found: found[0].replace(",", ""), text, flags=re.ASCII)


def squeezed(text: str) -> str:
    """A text without spaces that mean nothing, quotes and the braces that hold one letter: what equal writings share.

    >>> squeezed('x ^ {2}  + 1'), squeezed("1 2"), squeezed('"H" _2 "O"')
    ('x^2+1', '1 2', 'H_2O')
    """
    text = re.sub(r"(\\[A-Za-z]+) ?\{([A-Za-z])\}", r"\1 \2", text.replace('"', ""))
    text = re.sub(r"\{(\\[A-Za-z]+|[A-Za-z\d])\}", r"\1", text)
    text = re.sub(r"(\\[A-Za-z]+|_\w) +(?![A-Za-z])|(_\w) +", r"\1\2", text)
    return re.sub(r"(?<![A-Za-z\d]) +| +(?![A-Za-z\d])", "", re.sub(" +", " ", text.strip()))
