"""`fuseml demo`: the first day of a data scientist, through the public API and `git push` only.

`scenario` has the steps and their checks, `screen` the output, `server` the server's process, `command` the command.
"""
