"""The version of FuseML."""

__version__ = "0.1.0"
