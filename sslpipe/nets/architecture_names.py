"""What is known of networks by their names and sides alone, without torch."""


def names_of(architecture: str) -> tuple[str, ...]:
    """Return the names of the networks that `network.architecture` joins by +."""
    return tuple(name.strip() for name in architecture.split("+"))


def multiples(side: int, patch: int) -> tuple[int, ...]:
    """Return the multiples of `patch` that are nearest to `side`, below and above."""
    below = side // patch * patch
    return tuple(each for each in dict.fromkeys((below, below if below == side else below + patch)) if each > 0)
