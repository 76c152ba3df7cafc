"""What FuseML remembers: SQLModel tables on SQLite (embedded) or PostgreSQL, and the queries over them.

Functions of this package take a session and return domain objects or plain rows; only they import tables. Writing happens
inside `Database.write()`, one transaction that holds the state, the handled-event record and the outbox rows together.
"""
