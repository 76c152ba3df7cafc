"""The command and the client have no import circle, imports inside functions and under TYPE_CHECKING included."""

from __future__ import annotations

import grimp


def test_command_and_client_have_no_import_circle() -> None:
    graph = grimp.build_graph("fuseml", exclude_type_checking_imports=False)
    modules = [module for module in graph.modules if module.startswith(("fuseml.cli", "fuseml.client"))]
    assert len(modules) > 50
    circles = [
        (module, imported)
        for module in modules
        for imported in graph.find_modules_directly_imported_by(module)
        if module in graph.find_upstream_modules(imported)
    ]
    assert circles == []
