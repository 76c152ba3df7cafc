"""The rules of the product: pure, without I/O, clock, environment or framework."""
