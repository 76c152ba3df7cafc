"""The tables, one module for each concept. A change needs a migration; a test upgrades an empty database and compares it with these classes.

A query imports only the modules of its tables, and a table refers only to tables of its own module: mapping a class takes some 4 ms of
CPU, which a function's cold start pays for. `schema` has all tables.

Times are RFC 3339 text in UTC with a fixed width: text order is time order in every database.
"""
