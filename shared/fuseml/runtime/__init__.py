"""Infrastructure of a function: settings, the HTTP application, CloudEvents in and out, secrets, telemetry."""
