"""Use cases that several functions share: from requests and events to plans, runs, and their next executions."""
