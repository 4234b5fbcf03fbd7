"""The stages of the pipeline: one function each that reads files, calls the library and writes files."""
