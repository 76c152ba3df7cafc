"""Sources: git repositories whose files are the registry's records, the workflows, their assignments and the projects."""
