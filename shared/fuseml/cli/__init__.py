"""The `fuseml` command: the client for people and scripts.

Every module here is cheap to import; what a command needs (urllib3, rich, yaml, the embedded server) is imported when it runs.
Commands raise errors, `main.run` prints them; `-o json` and `-o yaml` print the API's objects and nothing else.
"""
