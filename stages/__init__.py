"""One thin function a stage: read files, call the library, write files."""
