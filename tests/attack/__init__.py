"""Attacks on a running server, by border. `task attack` runs them; each fails if the server is defended.

An attack is a function in the table of its module: it takes a `Target` and raises `Breach` with the evidence when it succeeds. It uses
the means of an attacker: addresses, bodies, and the accounts that it makes for itself with the token of a server for tests.
"""
