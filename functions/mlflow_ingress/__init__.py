"""Webhooks of MLflow tracking servers: HTTP `POST /webhooks/mlflow/<extension>`. Publishes `model.registered`, `model.tagged`, `model.aliased`.

The signature and its age are verified with the tracking server's current secret, or one that was replaced a short while ago. MLflow's event of
a new version lacks the run and the tags (infra/platform-facts.md 1.3), so the version is read again from the server. Depends on the
store, the keyring, a tracking client and a publisher.
"""
