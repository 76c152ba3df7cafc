"""`fuseml application call`: a request to a served model, and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import application_shapes
    from fuseml.client.api import Client

# The end of an address of the Open Inference Protocol.
_INFER = "/infer"
_EXAMPLE = "input_example.json"
# An example is a row or a few.
_LARGEST_EXAMPLE = 1 << 20


def call(
    context: typer.Context,
    name: options.Name,
    data: Annotated[
        str, options.option("--data", "-d", metavar="FILE|JSON", help="A row, a list of rows, or a whole request; `-` is standard input.")
    ] = "",
    example: Annotated[bool, typer.Option("--example", help="Send the input example that was logged with the model, or zeros.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Send a request to a served model; print it and the answer.

    A row is an object of values by column. Tables as MLflow writes them and
    requests of the Open Inference Protocol are taken, too.
    """
    if bool(data) == example:
        raise typer.BadParameter("give either --data or --example", param_hint="'--data' / '--example'")
    document = None if example else _document(data)
    client = session.connect(context)
    application = client.applications.get(name)
    url = application.get("url") or ""
    if not url:
        raise errors.ConflictError(f"application {name!r} has no URL yet; it is {application.get('status')}")
    request = _request(client, application, document)
    answer = client.predictions.infer(url, request)
    if format is not output.Format.TABLE:
        output.dump(format, {"url": url, "request": request, "answer": answer})
        return
    terminal.echo(f"POST {url}")
    terminal.echo(_text(request))
    terminal.echo(f"\nAnswer:\n{_text(answer)}")


def _document(data: str) -> object:
    text = data if data.lstrip()[:1] in ("{", "[") else session.read(data)
    try:
        return json.loads(text)
    except ValueError as error:
        where = "the data" if text is data else "standard input" if data == "-" else data
        raise errors.InvalidError(f"{where}: no JSON: {error}") from None


def _request(client: Client, application: application_shapes.Application, document: object) -> dict[str, object]:
    from fuseml.client import predictions

    url = application.get("url") or ""
    if document is not None and not url.endswith(_INFER) and isinstance(document, dict):
        # Of a model server with another protocol, only its own requests are known.
        return document
    rows = predictions.rows_of(document) if document is not None else None
    if rows is None and isinstance(document, dict):
        return document
    metadata = client.predictions.metadata(url)
    rows = rows or _example(client, application)
    if rows is None:
        terminal.echo("The model has no input example; zeros are sent.", err=True)
        rows = [predictions.placeholder(metadata)]
    return predictions.inference_request(metadata, rows)


def _example(client: Client, application: application_shapes.Application) -> list[Mapping[str, object]] | None:
    """The rows of the input example in the contents of the model; None without one, and where the contents are not accessible."""
    from fuseml.client import artifact_contents, predictions
    from fuseml.domain import artifact

    project, model = application.get("project"), str(application.get("model") or "")
    address = artifact.model_of(project, model) if project else None
    if address is None:
        return None
    try:
        access = client.artifacts.location(str(address))
        opened = artifact_contents.store_of(client, access, address.project).open(address)
        found = next((file for file in opened.files if file.path == _EXAMPLE and (file.size or 0) <= _LARGEST_EXAMPLE), None)
        return predictions.rows_of(json.loads(b"".join(opened.fetch(found)))) if found else None
    except (errors.FusemlError, ValueError) as error:
        terminal.echo(f"The input example cannot be read: {error}", err=True)
        return None


def _text(document: object) -> str:
    """JSON on as few lines as people can read: one for each input or output."""
    if isinstance(document, dict):
        parts = []
        for key, value in document.items():
            lines = [f"    {json.dumps(item, ensure_ascii=False)}" for item in value] if isinstance(value, list) and value else []
            shown = "[\n" + ",\n".join(lines) + "\n  ]" if lines else json.dumps(value, ensure_ascii=False)
            parts.append(f"  {json.dumps(key)}: {shown}")
        return "{\n" + ",\n".join(parts) + "\n}"
    return json.dumps(document, ensure_ascii=False)
