"""Schema migrations by Alembic. A released migration is never edited, and each works while the previous release is still running."""

from __future__ import annotations

import pathlib

import alembic.command
import alembic.config
import alembic.util
import sqlalchemy

from fuseml.domain import errors


def config() -> alembic.config.Config:
    """Alembic's configuration for the versions in this folder."""
    settings = alembic.config.Config()
    settings.set_main_option("script_location", str(pathlib.Path(__file__).parent))
    return settings


def upgrade(engine: sqlalchemy.Engine) -> None:
    """Apply the missing migrations. Raises PermanentError for a database that a newer release has migrated."""
    settings = config()
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        try:
            alembic.command.upgrade(settings, "head")
        except alembic.util.CommandError as error:
            raise errors.PermanentError(
                f"the database cannot be migrated ({error}); if a newer release has migrated it, use that release"
            ) from error
