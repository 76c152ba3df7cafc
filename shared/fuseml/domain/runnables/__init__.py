"""Runnables: reusable steps with typed inputs and outputs, their values, matching, choice of versions, and their use in workflows."""
