"""Schema migrations by Alembic. A released migration is never edited, and each works with the previous release still running."""

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
    """Apply every migration that the database has not seen. Raises PermanentError for a database that a newer release has changed."""
    settings = config()
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        try:
            alembic.command.upgrade(settings, "head")
        except alembic.util.CommandError as error:
            raise errors.PermanentError(
                f"the database cannot be brought up to date ({error}); if a newer release was here, use that one"
            ) from error
