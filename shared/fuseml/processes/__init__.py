"""Processes of code that is not trusted: started with an environment of their own, confined, limited, and ended as a whole.

`launcher` is the side of the server. It talks to one small process (`spawner`), which forks a supervisor (`supervisor`) for each program.
Spawner and supervisors import the standard library only, because they must start in milliseconds.
"""
