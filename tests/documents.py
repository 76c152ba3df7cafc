"""The smallest workflow on a codeset, for tests and benchmarks of everything around a step."""

from __future__ import annotations

MOUNTED = 'codeset: {name: "{{ inputs.code }}", path: /project}'
COMMIT = 'value: "{{ inputs.code.version }}"'


def one_step(name: str, program: str = 'command: ["true"]', code: str = MOUNTED) -> str:
    """A workflow of one step. `program` is its command in this machine's shell, `code` its input from the codeset (YAML)."""
    return f"""
name: {name}
inputs:
  - name: code
    type: codeset
steps:
  - name: work
    image: fuseml.local/shell:1
    {program}
    inputs:
      - name: code
        {code}
"""
