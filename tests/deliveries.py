"""Recorded HTTP requests of MLflow, Tekton and Gitea in tests/events; the README there states their origin."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "events"


def names(sender: str) -> list[str]:
    """The file names of a sender's deliveries, sorted."""
    return sorted(path.name for path in (FOLDER / sender).iterdir())


def read(sender: str, name: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of a delivery."""
    head, _, body = (FOLDER / sender / name).read_bytes().partition(b"\r\n\r\n")
    return dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]), body
