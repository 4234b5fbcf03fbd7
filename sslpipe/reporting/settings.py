"""Settings of the report."""

from dataclasses import dataclass

from sslpipe.io.settings import Count, TwoOrMore


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """The block `report`: what the pages show."""

    groups: TwoOrMore | None = None
    """Number of groups that the clusters of each model are merged to (`cluster.levels`); null: as many as the model
    has. More: smaller and finer groups."""
    neighbors: Count = 8
    """Nearest neighbours that are shown of each image (own choice: a row of pictures). More: longer rows, a larger
    report."""
    map: bool = True
    """Whether the map in two dimensions is computed, which takes most of the time."""
    images: Count = 100_000
    """Maximum number of images that are shown; of more, a uniform sample by `seed` (own choice: some 200 MB). More: a
    larger report, which takes longer to write and to open."""
