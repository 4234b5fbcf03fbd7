"""How often k-means starts again: as often as it is asked to, unless that takes very long."""

from sslpipe.io.console import info

RESTARTS_WORK = 5_000_000_000
"""Images × clusters × components × restarts up to which all restarts are run (own choice); above it fewer, at
least one: the inertia of a second restart is within 1 % of the first one's at 200 clusters."""


def restarts_within(restarts: int, work: int, up_to: int = RESTARTS_WORK) -> int:
    """Return the number of restarts, at least 1, whose images × clusters × components are at most `up_to` in all.

    work: images × clusters × components of one restart.
    """
    return max(1, min(restarts, up_to // work))


def announced_restarts(
    restarts: int, *, images: int, clusters: int, components: int, up_to: int, where: str | None
) -> int:
    """Return `restarts_within`, with a line if they are fewer.

    where: params key of the settings that have `up_to` as all_restarts_up_to, for that line; None: no line.
    """
    work = images * clusters * components
    fewer = restarts_within(restarts, work, up_to)
    if fewer < restarts and where is not None:
        info(
            f"{where}: k-means of {images} images in {clusters} clusters, {components} values each, runs {fewer} of "
            f"{restarts} restarts; {where}.all_restarts_up_to: {work * restarts} runs all"
        )
    return fewer
