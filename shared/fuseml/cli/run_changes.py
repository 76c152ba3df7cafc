"""`fuseml run rerun|resume|cancel|approve|reject`: commands that change or repeat runs."""

from __future__ import annotations

from typing import Annotated

import typer

from fuseml.cli import options, output, session
from fuseml.cli.named_run import RunName

app = typer.Typer(**options.GROUP)


@app.command(
    epilog=options.examples(
        "fuseml run rerun mlflow-e2e-1 --wait",
        "fuseml run rerun mlflow-e2e-1 -i alpha=0.5",
        "fuseml run rerun mlflow-e2e-1 --locked",
        "fuseml run rerun mlflow-e2e-1 --no-cache",
        "fuseml run rerun mlflow-e2e-1 --until trainer",
        "fuseml run rerun mlflow-e2e-1 --only trainer",
    )
)
def rerun(
    context: typer.Context,
    run: RunName,
    input: options.Input = None,
    locked: Annotated[bool, typer.Option("--locked", help="Repeat the stored plan exactly.")] = False,
    until: options.Until = "",
    only: options.Only = "",
    no_cache: options.NoCache = False,
    wait: options.Wait = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Repeat a run with the current workflow and tools.

    -i replaces an input, or gives a parameter of the code. --locked repeats its plan exactly, tools included. The current credentials apply in
    both cases. Steps with a cache are reused if nothing they depend on has changed, except with --locked, --only and --no-cache.
    """
    from fuseml.cli import progress

    client = session.connect(context)
    inputs = options.named(input, "input")
    request = client.runs.rerun(run, locked=locked, inputs=inputs, until=until, only=only, no_cache=no_cache)
    progress.show_run_of_request(client, request, format, wait=wait)


@app.command(
    epilog=options.examples(
        "fuseml run resume mlflow-e2e-1 --wait",
        "fuseml run resume mlflow-e2e-1 --with-commit $(git rev-parse HEAD)",
        "fuseml run resume mlflow-e2e-1 --with-image trainer=fuseml.local/shell:1",
    )
)
def resume(
    context: typer.Context,
    run: RunName,
    with_commit: Annotated[str, options.option("--with-commit", metavar="SHA", help="Another codeset version.")] = "",
    with_image: Annotated[
        list[str] | None, options.option("--with-image", metavar="STEP=IMAGE", help="Another image for a step; may be repeated.")
    ] = None,
    wait: options.Wait = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Continue a failed or cancelled run.

    Succeeded steps are not executed again; --with-commit and --with-image apply to the other steps.
    """
    from fuseml.cli import progress

    client = session.connect(context)
    request = client.runs.resume(run, commit=with_commit, images=options.named(with_image, "step"))
    progress.show_run_of_request(client, request, format, wait=wait)


@app.command(epilog=options.examples("fuseml run cancel mlflow-e2e-1", 'fuseml run cancel mlflow-e2e-1 --reason "wrong data"'))
def cancel(
    context: typer.Context,
    run: RunName,
    reason: Annotated[str, options.option("--reason", "-m", help="Reason; stored as the cause of the run.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Stop a run and its steps.

    A run that waits for an approval or for its concurrency group ends at once.
    """
    output.done(format, session.connect(context).runs.cancel(run, reason=reason), f"Run {run} is being cancelled.")


Step = Annotated[str, options.option("--step", help="The step; needed if several wait.")]
Comment = Annotated[str, options.option("--comment", "-m", help="Reason; stored with the run.")]


@app.command(
    epilog=options.examples(
        'fuseml run approve mlflow-e2e-1 --comment "better than the last one"', "fuseml run approve mlflow-e2e-1 --step predictor"
    )
)
def approve(
    context: typer.Context, run: RunName, step: Step = "", comment: Comment = "", format: options.Output = output.Format.TABLE
) -> None:
    """Approve a step that waits for an approval.

    The run records the approver, the time and the comment.
    """
    item = session.connect(context).runs.approve(run, step=step, comment=comment)
    output.done(format, item, f"Run {run} is approved and continues.")


@app.command(epilog=options.examples('fuseml run reject mlflow-e2e-1 --comment "worse than the last one"'))
def reject(
    context: typer.Context, run: RunName, step: Step = "", comment: Comment = "", format: options.Output = output.Format.TABLE
) -> None:
    """Reject a step that waits for an approval.

    The step and the run fail; other running steps are stopped.
    """
    item = session.connect(context).runs.reject(run, step=step, comment=comment)
    output.done(format, item, f"Run {run} is rejected and fails.")
