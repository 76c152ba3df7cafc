"""Installation of tools on a cluster: descriptions, the order of their requirements, commands, and the records that result."""
