"""FuseML: the library that its functions share. See ARCHITECTURE.md for a map."""

__version__ = "0.1.0"
