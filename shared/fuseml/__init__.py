"""FuseML: the library that its functions share. See ARCHITECTURE.md for a map."""
