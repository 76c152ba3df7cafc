"""No import circle in the tree, imports inside functions and under TYPE_CHECKING included."""

from __future__ import annotations

import grimp


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph("fuseml", "functions", exclude_type_checking_imports=False)
    assert len(graph.modules) > 300
    circles = [
        (module, imported)
        for module in sorted(graph.modules)
        for imported in graph.find_modules_directly_imported_by(module)
        if module in graph.find_upstream_modules(imported)
    ]
    assert circles == []
