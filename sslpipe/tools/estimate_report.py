"""What estimate-clusters shows: the curve as rows and as a short table, and what speaks against its answer."""

from collections.abc import Mapping, Sequence

from sslpipe.metrics.table import print_cells
from sslpipe.tools.cluster_scores import Scores, Suggestion

AROUND = 4
"""Rows of the table on either side of the suggestion."""
ELSEWHERE = 10
"""Rows of the table farther off, at most."""
Row = Mapping[str, float]


def rows_of(scores: Mapping[int, Scores]) -> list[dict[str, float]]:
    """A row for each number of clusters, ascending: "clusters", "score", the three it is the mean of, loss and use."""
    return [
        {
            "clusters": clusters,
            "score": found.mean(),
            **found.means(),
            "held_out_loss": found.loss,
            "clusters_used": found.used,
        }
        for clusters, found in sorted(scores.items())
    ]


def doubts(suggestion: Suggestion, *, clear: float, lowest: int, highest: int) -> list[str]:
    """Plain sentences on why the answer is not to be relied on; none where it is clear.

    clear: what the score of a clear answer reaches. lowest, highest: numbers of clusters that were tried.
    """
    found = []
    if suggestion.score < clear:
        found.append(
            f"no clear number of groups: the best score is {suggestion.score:.2f}, clear groups reach {clear:.2f}; "
            "better features come first (a longer pretraining, another pretext task, a published network)"
        )
    if suggestion.high > 2 * suggestion.low:
        found.append(f"no agreement: anything from {suggestion.low} to {suggestion.high} clusters has something for it")
    if suggestion.suggested == highest > lowest:
        found.append(f"the best is the highest number tried; raise --at-most {highest}")
    return found


def print_curve(rows: Sequence[Row], suggestion: Suggestion) -> None:
    """The rows around the suggestion and some of the others, as a table on the terminal."""
    columns = list(rows[0])
    cells = [[f"{row[name]:.3f}" if name != "clusters" else f"{row[name]:.0f}" for name in columns] for row in rows]
    places = shown([int(row["clusters"]) for row in rows], suggestion.suggested)
    print_cells(
        "scores without labels, 1 at best; score: mean of the three behind it", columns, [cells[i] for i in places]
    )


def shown(numbers: Sequence[int], best: int) -> list[int]:
    """Places in `numbers`, ascending: all within AROUND places of `best`, and some of the others, evenly spread."""
    centre = numbers.index(best)
    near = [place for place in range(len(numbers)) if abs(place - centre) <= AROUND]
    others = [place for place in range(len(numbers)) if abs(place - centre) > AROUND]
    count = min(ELSEWHERE, len(others))
    # The first and the last are among them.
    picked = {others[round(i * (len(others) - 1) / max(count - 1, 1))] for i in range(count)}
    return sorted([*near, *picked])
