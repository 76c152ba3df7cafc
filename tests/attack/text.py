"""Text and numbers: what is slow to read, what no type holds, what a terminal obeys."""

from __future__ import annotations

import itertools
import urllib.parse

import yaml

from fuseml.cli import terminal
from tests import documents
from tests.attack.target import Attack, Target, check
from tests.component import untrusted

# Growth of the work when the text is four times as long: 4 if linear, 16 if quadratic. Less work than `_NOISE` seconds is not measured.
_LONGER, _QUADRATIC, _NOISE = 4, 9.0, 0.2
_ROUNDS = 3
_EXPLOSION = 50
_REPEATED = ["{{" + " " * 8, "{{ inputs.", "{{ a", "}}{{", "{{{{", "{{ inputs.code.", "${", "\\{{", "a{{'"]
_BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
    "depth": "[" * 20_000,
    "depth in maps": "".join("{a: " for _ in range(10_000)),
    "an alias of itself": "&a [*a]",
    "merged maps": "a: &a {x: 1}\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{','.join(['*' + chr(97 + n)] * 9)}]}}\n" for n in range(9)),
    "a long number": "name: " + "9" * 100_000,
    "a tag": "!!python/object/apply:os.system [id]",
    "an anchor for each item": "[" + ",".join(f"&a{n} x" for n in range(50_000)) + "]",
}
_OBEYED = "\x1b]52;c;aGk=\x07\x1b[2J\u202e\x9b31m\r"


def _work(target: Target, text: str) -> float:
    """Seconds of the server's processors for a document with this text in an expression."""
    # As JSON, which is read fast, so that the time is the expression's.
    document = yaml.safe_load(documents.one_step(target.name("slow")))
    document["steps"][0]["inputs"][0] = {"name": "code", "value": text}
    before = target.measured("process_cpu_seconds_total")
    target.call("POST", "/workflows?dry_run=true", document)
    return target.measured("process_cpu_seconds_total") - before


def _growing_expressions(target: Target) -> None:
    for part in _REPEATED:
        length = 2_000
        while True:
            texts = [part * (times * length // len(part)) for times in (1, _LONGER)]
            if _work(target, texts[1]) > _NOISE:
                # The least of several: what else the server does meanwhile only adds.
                short, long = (min(_work(target, text) for _ in range(_ROUNDS)) for text in texts)
                growth = long / max(short, _NOISE / _LONGER)
                check(growth < _QUADRATIC, f"{part!r} repeated: {_LONGER} times the text is {growth:.0f} times the work")
                break
            if length > 100_000:
                break
            length *= _LONGER


def _bombs(target: Target) -> None:
    def work(text: str) -> tuple[int, float]:
        before = target.measured("process_cpu_seconds_total")
        status = target.call("POST", path, raw=text.encode(), headers={"Content-Type": "application/x-yaml"}).status
        return status, target.measured("process_cpu_seconds_total") - before

    for path, (name, bomb) in itertools.product(("/workflows", "/extensions", "/workflows?dry_run=true"), _BOMBS.items()):
        status, used = work(bomb)
        check(
            400 <= status < 500 or (status == 200 and "dry_run" in path), f"a document bomb ({name}) to {path} was answered with {status}"
        )
        if used > _NOISE:
            _, ordinary = work("[" + "x," * (len(bomb) // 2) + "]")
            times = used / max(ordinary, _NOISE / 10)
            check(times < _EXPLOSION, f"a document bomb ({name}) to {path} takes {times:.0f} times the work of a document of its length")


def _numbers(target: Target) -> None:
    found = [
        (method, path, parameter["name"])
        for method, path, operation in target.operations()
        for parameter in operation["parameters"]
        if "integer" in str(parameter["schema"]) and parameter["in"] == "query"
    ]
    check(found, "the document of the API has no numbers in queries")
    for (method, path, name), number in target.some("numbers", itertools.product(found, untrusted.NUMBERS)):
        status, _ = target.raw(method, f"{path}?{name}={urllib.parse.quote(number)}", target.bearer())
        check(status in (400, 404), f"{method} {path}?{name}={number[:30]} was answered with {status}")


def _broken_text(target: Target) -> None:
    taking = [
        (method, path) for method, path, operation in target.operations() if "requestBody" in operation or path.startswith("/webhooks/")
    ]
    for (method, path), (kind, body) in target.some("bodies", itertools.product(taking, untrusted.BODIES.values())):
        status, _ = target.raw(method, path, target.bearer(**({"Content-Type": kind} if kind else {})), body)
        check(400 <= status < 500, f"{method} {path} takes {body!r}: {status}")
    for (method, path, _), address in target.some("addresses", itertools.product(target.operations(), untrusted.ADDRESSES)):
        escaped = "".join(f"%{byte:02x}" for byte in address)
        for sent in (f"{path}?name={escaped}", f"{path}/{escaped}"):
            target.raw(method, sent, target.bearer())


def _terminal_sequences(target: Target) -> None:
    project = target.name("project")
    target.post(f"/projects?name={project}&description={urllib.parse.quote(_OBEYED)}")
    name = target.name("obey")
    described = "".join(f"\\u{ord(character):04x}" for character in _OBEYED)
    document = documents.one_step(name).replace("inputs:\n", f'description: "{described}"\ninputs:\n', 1)
    target.call("POST", "/workflows", raw=document.encode(), headers={"Content-Type": "application/x-yaml"})
    extension = {"id": target.name("tool"), "product": "x", "description": _OBEYED}
    target.call("POST", "/extensions", extension)
    commands = (
        ["project", "list"],
        ["project", "list", "-o", "json"],
        ["workflow", "list"],
        ["workflow", "get", name],
        ["extension", "list"],
    )
    for arguments in (*commands, ["extension", "get", extension["id"], "-o", "yaml"], ["codeset", "list", "--project", _OBEYED]):
        ended = target.fuseml(*arguments, code=None)
        for text in (ended.stdout, ended.stderr):
            check(not terminal.holds_hostile(text), f"`fuseml {' '.join(arguments[:2])}` prints {text[:200]!r} to the terminal")


ATTACKS = (
    Attack("expressions that take long", "the work for an expression grows with its length only", _growing_expressions),
    Attack("document bombs", "a small document takes no unbounded work", _bombs),
    Attack("numbers that no type holds", "a number outside of its bounds is refused", _numbers),
    Attack("text that is none", "half characters and bytes that are no UTF-8 are refused", _broken_text),
    Attack("sequences for the terminal", "the command prints nothing that a terminal obeys", _terminal_sequences),
)
