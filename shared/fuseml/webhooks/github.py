"""Differences of GitHub's webhooks from Gitea's, whose body has the same shape (`webhooks.gitea`).

Source: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
"""

from __future__ import annotations

EVENT, DELIVERY = "x-github-event", "x-github-delivery"
SIGNATURE, SIGNATURE_PREFIX = "x-hub-signature-256", "sha256="

MOST_COMMITS = 2048
"""GitHub lists at most so many commits of a push and sends no total."""
