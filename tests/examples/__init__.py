"""The codesets of `examples/`, from a push to predictions."""
