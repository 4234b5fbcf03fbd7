"""The report: groups, map, duplicates, doubtful labels and metrics of a project, as pages that open from disk."""
