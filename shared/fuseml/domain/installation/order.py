"""The order of tools: each after those that it requires."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fuseml.domain import errors


def ordered(name: str, requires: Callable[[str], Sequence[str]]) -> list[str]:
    """The tools to install for `name`, each once, requirements first, otherwise in the order in which they are named.

    Raises InvalidError with the path of a cycle.
    """
    done: list[str] = []
    # Without recursion: a chain may be longer than Python's stack.
    path, rest = [name], [list(requires(name))]
    while path:
        if not rest[-1]:
            done.append(path.pop())
            rest.pop()
            continue
        following = rest[-1].pop(0)
        if following in path:
            cycle = [*path[path.index(following) :], following]
            raise errors.InvalidError(f"the tools require one another: {' -> '.join(cycle)}; remove one of these requirements")
        if following not in done:
            path.append(following)
            rest.append(list(requires(following)))
    return done
