"""The report of a project: pages that open from disk, without a network."""
