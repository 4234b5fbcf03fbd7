"""Running a stage: open its inputs, train its method, evaluate models, write the outputs."""
