"""The environment that a codeset asks for: which file describes it, and the file's content as arguments for uv.

uv reads requirements files, `pyproject.toml` and locks itself. This package finds the file, translates the formats that uv does not know
(conda, Poetry, Pipfile, MLflow's), and outlines the requirements: for the key of the environment, and for the comparison with an existing one.
"""
