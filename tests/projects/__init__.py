"""Small codesets in the shape of real repositories, through builder, trainer and model server (docs/projects.md has the table)."""
