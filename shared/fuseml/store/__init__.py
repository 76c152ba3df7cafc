"""The database: SQLModel tables on SQLite (embedded) or PostgreSQL, and the queries over them.

Only this package imports its tables; a row crosses the border as its query returned it, named by the query's module (`runs.Run`), and only
functions of this package change it. Writing happens inside `Database.write()`: one transaction holds the state, the handled-event record
and the outbox rows.
"""
