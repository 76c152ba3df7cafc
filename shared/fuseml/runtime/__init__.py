"""What every function needs to run: settings, the HTTP application, CloudEvents in and out, secrets, logs."""
