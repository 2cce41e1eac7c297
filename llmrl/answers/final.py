"""Finding the final answer in a text: what a completion says in the end, and what a solution of the data asks for."""

from __future__ import annotations

BOXED = "\\boxed{"
LONGEST = 300  # characters of a gold answer, which bounds the work of comparing with it


def last_boxed(text: str) -> tuple[str, str] | None:
    r"""What the last \boxed{} of a text holds, and what follows it; None where it is missing or not closed."""
    _, boxed, rest = text.rpartition(BOXED)
    depth = 1
    for end, letter in enumerate(rest if boxed else ""):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return rest[:end].strip(), rest[end + 1 :]
    return None


def final(text: str) -> str | None:
    r"""What the last \boxed{} of a text holds, or None.

    >>> final(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    boxed = last_boxed(text)
    return boxed and boxed[0]


def gold(solution: str) -> str | None:
    r"""The one answer a solution gives, from its last \boxed{} where it has one; None where there is no short one.

    >>> gold("$72$"), gold(r"48 + 24 = 72, so \boxed{72}."), gold("48 + 24 =\n72")
    ('72', '72', None)
    """
    answer = solution.strip() if BOXED not in solution else final(solution)
    if not answer or len(answer) > LONGEST or "\n" in answer:
        return None
    stripped = answer.strip("$ ") or answer
    return stripped if stripped.count("{") == stripped.count("}") else None
