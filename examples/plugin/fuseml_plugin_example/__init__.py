"""Two plugins of FuseML: a probe for Prometheus, and an artifact store in a SQLite database."""
