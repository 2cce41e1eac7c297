"""How many rows of each of several sources are used."""

from __future__ import annotations


def quotas(available: list[int], weights: list[float], most: int | None) -> list[int]:
    """How many rows of each source are used, in proportion to the weights: of one source all, of several until one of
    them ends; at most so many in all.

    >>> quotas([300, 100], [1, 1], None), quotas([300, 100], [2, 1], 100), quotas([300], [5], None)
    ([100, 100], [67, 33], [300])
    """
    scale = min(count / weight for count, weight in zip(available, weights, strict=True))
    if most is not None:
        scale = min(scale, most / sum(weights))
    exact = [scale * weight for weight in weights]
    found = [int(one + 1e-9) for one in exact]
    # Jefferson's method, as it takes from nobody when there is one more: a larger sample keeps the smaller.
    for _ in range(round(sum(exact)) - sum(found)):
        place = min(range(len(found)), key=lambda place: ((found[place] + 1) / weights[place], place))
        found[place] += found[place] < available[place]
    return found


def shares(available: list[int], weights: list[float], most: int | None) -> list[int]:
    """How many held-out rows of each source are used: all, or so many in all in proportion to the weights, where a
    source that has less leaves the rest to the others.

    >>> shares([300, 10], [1, 1], 100), shares([30, 10], [1, 1], None)
    ([90, 10], [30, 10])
    """
    if most is None or sum(available) <= most:
        return available
    found = [0] * len(available)
    while (left := most - sum(found)) > 0:
        open_ = [place for place, count in enumerate(available) if found[place] < count]
        some = quotas([available[place] - found[place] for place in open_], [weights[place] for place in open_], left)
        for place, count in zip(open_, some, strict=True):
            found[place] += count
        if not any(some):  # less than one each
            found[open_[0]] += 1
    return found
