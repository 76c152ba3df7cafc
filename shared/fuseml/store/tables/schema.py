"""All tables together, for what makes or compares a whole schema."""

from __future__ import annotations

import sqlmodel

metadata = sqlmodel.SQLModel.metadata
