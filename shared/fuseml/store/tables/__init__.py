"""The tables, a module a concept. A change here needs a migration; a test upgrades an empty database and compares it with these classes.

Whoever queries a table imports its module, and tables refer to those of their own module only: to map a class takes some 4 ms of CPU,
and a function's cold start pays for those that it uses. `schema` has all of them.

Times are RFC 3339 text in UTC with a fixed width, so that text order is time order in every database.
"""
