"""Where images come from: one data set or kind of input a file."""
