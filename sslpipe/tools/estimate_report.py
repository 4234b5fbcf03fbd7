"""The report of estimate-clusters: scores as rows and as a short table, and warnings about the suggested number."""

from collections.abc import Mapping, Sequence

from sslpipe.metrics.table import print_cells
from sslpipe.tools.cluster_scores import Scores, Suggestion

AROUND = 4
"""Rows of the table on each side of the suggested number."""
ELSEWHERE = 10
"""Maximum number of other rows of the table."""
Row = Mapping[str, float]


def rows_of(scores: Mapping[int, Scores]) -> list[dict[str, float]]:
    """Return a row for each number of clusters, ascending.

    Columns: "clusters"; "score", the mean of the next three; "agreement", "stability" and "silhouette";
    "held_out_loss"; "clusters_used".
    """
    return [
        {
            "clusters": clusters,
            "score": each.mean(),
            **each.means(),
            "held_out_loss": each.loss,
            "clusters_used": each.used,
        }
        for clusters, each in sorted(scores.items())
    ]


def warnings_of(suggestion: Suggestion, *, min_score: float, lowest: int, highest: int) -> list[str]:
    """Return the reasons why a suggestion is not reliable, one sentence each; empty for a reliable suggestion.

    min_score: lowest score of a reliable suggestion. lowest, highest: numbers of clusters that were tried.
    """
    warnings = []
    if suggestion.score < min_score:
        warnings.append(
            f"no clear number of clusters: the best score is {suggestion.score:.2f}, below {min_score:.2f}; "
            "train better features first (longer pretraining, another pretext task, a published network)"
        )
    if suggestion.high > 2 * suggestion.low:
        warnings.append(f"the scores disagree: {suggestion.low} to {suggestion.high} clusters are all plausible")
    if suggestion.suggested == highest > lowest:
        warnings.append(f"the best number is the highest that was tried; raise --at-most {highest}")
    return warnings


def print_curve(rows: Sequence[Row], suggestion: Suggestion) -> None:
    """Print a table of the rows around the suggested number and some of the others."""
    columns = list(rows[0])
    cells = [[f"{row[name]:.3f}" if name != "clusters" else f"{row[name]:.0f}" for name in columns] for row in rows]
    places = shown([int(row["clusters"]) for row in rows], suggestion.suggested)
    title = "scores without labels, at most 1; score: mean of agreement, stability and silhouette"
    print_cells(title, columns, [cells[i] for i in places])


def shown(numbers: Sequence[int], best: int) -> list[int]:
    """Return the indices of the numbers to show, ascending: those around `best`, and some others at equal distances."""
    centre = numbers.index(best)
    around = [place for place in range(len(numbers)) if abs(place - centre) <= AROUND]
    others = [place for place in range(len(numbers)) if abs(place - centre) > AROUND]
    count = min(ELSEWHERE, len(others))
    # They include the first and the last number.
    chosen = {others[round(i * (len(others) - 1) / max(count - 1, 1))] for i in range(count)}
    return sorted([*around, *chosen])
