"""Intervals of shares that are right at the edges, too: of 40 answers none of which is right, 0 to 9 in a hundred.

Wilson's score interval (1927, https://doi.org/10.1080/01621459.1927.10502953), which Brown, Cai & DasGupta recommend
(2001, https://doi.org/10.1214/ss/1009213286). Answers to one prompt are not independent: of samples in clusters it
counts how many independent ones would vary as much (Kish's effective sample size), as Franco et al. found to cover best
(2019, https://doi.org/10.1093/jssam/smy019).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Z = statistics.NormalDist().inv_cdf(0.975)  # of 95 %


def wilson(share: float, n: float) -> tuple[float, float]:
    """The ends of the 95 % interval of a share of n, which need not be whole; 0 to 1 where n is 0.

    >>> [round(end, 3) for end in wilson(0.0, 40)], wilson(1.0, 0)
    ([0.0, 0.088], (0.0, 1.0))
    """
    if n <= 0:
        return 0.0, 1.0
    middle, slack = share + Z**2 / (2 * n), Z * (share * (1 - share) / n + (Z / (2 * n)) ** 2) ** 0.5
    low, high = ((middle + side * slack) / (1 + Z**2 / n) for side in (-1, 1))
    return (max(0.0, low) if share > 0 else 0.0), (min(1.0, high) if share < 1 else 1.0)


def effective(clusters: Sequence[Sequence[bool]]) -> float:
    """How many independent answers vary as much as these, of which those of a cluster go together: no fewer than there
    are clusters and no more than there are answers. Where all are true, or none is, as many as clusters.
    """
    means = [statistics.fmean(one) for one in clusters]
    least, most = len(means), sum(map(len, clusters))
    share = statistics.fmean(means)
    if least < 2 or not 0 < share < 1:
        return float(least)
    variance = statistics.variance(means) / least
    return float(min(most, max(least, share * (1 - share) / variance))) if variance else float(most)


def of_clusters(clusters: Sequence[Sequence[bool]]) -> tuple[float, float, float]:
    """The mean over clusters of the share that is true, and the ends of its 95 % interval over clusters.

    >>> [round(figure, 3) for figure in of_clusters([[True, True], [False, False], [True, False]])]
    [0.5, 0.125, 0.875]
    """
    share = statistics.fmean(statistics.fmean(one) for one in clusters)
    return share, *wilson(share, effective(clusters))
