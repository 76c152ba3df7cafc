"""`fuseml pipeline`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, pipeline_results, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import pipeline_shapes

app = typer.Typer(help="Pipelines: workflows made of runnables or templates.", **options.GROUP)
app.add_typer(pipeline_results.app, name="results")


@app.command(
    epilog=options.examples(
        "fuseml pipeline compose train mlflow-builder mlflow-trainer --to train.yaml",
        "fuseml pipeline compose tune builder trainer --input trainer.parameters",
        "fuseml pipeline compose two builder a=trainer b=trainer predictor \\",
        "    --connect predictor.model=b.model",
    )
)
def compose(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the workflow.", metavar="NAME", show_default=False)],
    runnables: Annotated[
        list[str],
        typer.Argument(help="NAME, NAME@^1.2 or STEP=NAME, in the order of the steps.", metavar="RUNNABLE", show_default=False),
    ],
    connect: Annotated[
        list[str] | None,
        options.option("--connect", metavar="STEP.INPUT=STEP.OUTPUT", help="Give an input this output; may be repeated."),
    ] = None,
    input: Annotated[
        list[str] | None,
        options.option(
            "--input", "-i", metavar="STEP.INPUT[=VALUE]", help="Make it an input of the workflow, with a default; may be repeated."
        ),
    ] = None,
    project: options.Project = "",
    description: options.Description = "",
    to: Annotated[str, options.option("--to", metavar="FILE", help="Write the document to a file instead.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Compose a workflow of runnables.

    Outputs are matched to the inputs of later runnables. Codesets and artifacts that no runnable gives become inputs of the workflow. Prints
    the document, and on standard error what is coupled with what, and why.
    """
    request: pipeline_shapes.CompositionRequest = {
        "name": name,
        "runnables": runnables,
        "project": project,
        "connections": connect or [],
        "inputs": input or [],
        "description": description,
    }
    composition = session.connect(context).pipelines.compose(request)
    if to:
        _write(to, composition["workflow"], format)
    else:
        output.dump(output.Format.JSON if format is output.Format.JSON else output.Format.YAML, composition["workflow"])
    if format is output.Format.TABLE:
        for coupling in composition["couplings"]:
            terminal.echo(f"{coupling['input']} <- {coupling['source']}: {coupling['reason']}", err=True)
        if to:
            terminal.echo(f"{to} is written; `fuseml workflow create {to}` creates the workflow.", err=True)


def _write(file: str, document: object, format: output.Format) -> None:
    import yaml

    is_json = format is output.Format.JSON
    text = json.dumps(document, indent=2) + "\n" if is_json else yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise errors.PermanentError(f"{file} cannot be written: {error.strerror or error}") from error


@app.command(
    epilog=options.examples(
        "fuseml pipeline add mlflow-train -n train -i mlflow_code='code://*' -p demo",
        "fuseml pipeline add mlflow-serve -n serve -i model='model://*' -p demo",
        "fuseml pipeline add team/nightly -n nightly -i rows=500",
    )
)
def add(
    context: typer.Context,
    template: Annotated[str, typer.Argument(help="A template that ships, or CATALOG/TEMPLATE.", metavar="TEMPLATE", show_default=False)],
    name: Annotated[str, options.option("--name", "-n", help="The name of the workflow.")],
    input: Annotated[
        list[str] | None,
        options.option(
            "--input", "-i", metavar="NAME=VALUE", help="A value, an artifact, or a pattern such as 'code://*'; may be repeated."
        ),
    ] = None,
    project: options.Project = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Add a pipeline to a project, from a template.

    Each artifact of a pattern starts a run: 'code://*' means every codeset of the project, present and future. A repetition changes nothing.
    The pipeline is a workflow: `fuseml workflow` shows, runs and deletes it.
    """
    client = session.connect(context)
    owner = project or client.projects.only()
    pipeline = client.pipelines.add(template, name, owner, options.named(input, "input"))
    output.done(format, pipeline, _sentence(pipeline, owner))


def _sentence(pipeline: pipeline_shapes.Pipeline, project: str) -> str:
    what = "is added to" if pipeline["changed"] else "was there already, unchanged, in"
    starts = " and ".join(pipeline["patterns"])
    rest = f"Each new version of {starts} starts it." if starts else f"`fuseml workflow run {pipeline['name']} -p {project}` runs it."
    return f"Pipeline {pipeline['name']} {what} {project}, from {pipeline['template']}. {rest}"
