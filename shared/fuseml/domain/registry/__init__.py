"""The extension registry: records, version constraints, and the resolution of selectors."""
