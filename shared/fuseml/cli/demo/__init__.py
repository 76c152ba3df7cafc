"""`fuseml demo`: what a data scientist does on the first day, done for real through the public API and `git push` only.

`story` is what happens, `screen` how it is shown, `server` the child process that it happens in, `command` puts them together.
"""
