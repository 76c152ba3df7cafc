"""Documents in YAML or JSON: parsing with source positions, validation, expressions."""
