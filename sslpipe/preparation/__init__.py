"""From the images of a source to the store: folders, labels files, splits, findings."""
