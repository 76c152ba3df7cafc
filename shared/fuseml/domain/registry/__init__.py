"""The registry: extension records, their versions, and the choice of a service by selector."""
