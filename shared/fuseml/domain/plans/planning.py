"""From a workflow to a plan: expressions become typed parts, steps get their environment, and all names are fixed.

The caller supplies the values that differ from run to run: commits, inputs and bindings. Equal arguments give equal plans. Credentials become
`SecretPart`s, never text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from fuseml.domain import errors, plans, scalars, workflows
from fuseml.domain.documents import document, expression
from fuseml.domain.plans import artifact_planning, combinations, conversions, run_inputs, serving_access
from fuseml.domain.registry import credential_files, extension, selector
from fuseml.domain.workflows import matrix, references, resources, rules

NAMESPACE = "fuseml-workloads"
"""The namespace of the workloads in the original; the images of its predictors read it."""

Bindings = Mapping[str, Mapping[str, selector.Binding]]
"""Step -> name of the selector -> its binding."""


class CodesetVersion(document.Model):
    """A codeset at an exact commit; `ref` is the full name of a branch or tag at that commit."""

    project: str
    codeset: str
    url: str
    ref: str
    commit: str


def selectors(workflow: workflows.Workflow) -> dict[str, Sequence[selector.Selector]]:
    """The selectors to resolve before a plan can be built: step -> its selectors, in order. Steps without selectors are left out."""
    return {step.name: step.extensions for step in workflow.steps if step.extensions}


def build(
    workflow: workflows.Workflow,
    *,
    revision: int,
    run_id: str,
    run_name: str,
    project: str,
    codesets: Mapping[str, CodesetVersion],
    inputs: Mapping[str, str],
    bindings: Bindings,
    namespace: str = NAMESPACE,
    stores: artifact_planning.Stores | None = None,
) -> plans.Plan:
    """The plan of one run. `codesets` and `inputs` are keyed by the workflow's inputs; inputs that are left out take their defaults.
    Undeclared inputs are parameters of the code where the workflow has an input of that type. `stores` are those of the artifacts of steps.

    Raises InvalidError, which lists missing and unknown inputs, configuration keys that a binding lacks, and quantities that an input
    made illegal; UnresolvedError for selectors without a binding; the errors of `stores`.
    """
    run_inputs.check_codesets(workflow, codesets)
    values = run_inputs.values(workflow, inputs)
    _check_bindings(workflow, bindings)
    run = _Run(workflow, project, run_name, namespace, codesets, values, bindings, stores or artifact_planning.Unplanned())
    steps: dict[str, plans.StepPlan] = {}
    for planner in run.planners.values():
        for step in planner.all():
            steps |= {copy.name: copy for copy in run.copies.steps() if copy.name not in steps}
            steps[step.name] = step
    if run.problems:
        raise errors.InvalidError(f"the run cannot be planned: {run.problems[0]}", run.problems)
    producers = {output.name: step.name for step in workflow.steps for output in step.outputs}
    return plans.Plan(
        id=run_id,
        run=run_name,
        project=project,
        workflow=workflow.name,
        revision=revision,
        inputs=values,
        steps=tuple(steps[name] for name in references.ordered({name: step.needs for name, step in steps.items()})),
        outputs={output.name: run.output(producers[output.name], output.name) for output in workflow.outputs if output.name in producers},
        bindings=tuple(_bindings(run, workflow, bindings)),
        timeout=workflow.timeout,
    )


def variables_of(binding: selector.Binding, step: str, text: Callable[[str], plans.Value] = plans.text) -> dict[str, plans.Value]:
    """The variables of a binding in the environment of a step: its configuration, and its secrets as references."""

    def setting(value: str) -> plans.Value:
        return (plans.step_token(step),) if value == extension.STEP_TOKEN else text(value)

    variables = {key: setting(value) for key, value in sorted(binding.settings.items())}
    return variables | {key: (_secret(binding, key),) for key in sorted(binding.secret_keys)}


def _secret(binding: selector.Binding, key: str) -> plans.SecretPart:
    return plans.SecretPart(
        extension=binding.extension_id,
        service=binding.service_id,
        credentials=binding.credentials_id,
        key=key,
        path=binding.secret_files.get(key, ""),
    )


def _bindings(run: _Run, workflow: workflows.Workflow, bindings: Bindings) -> Iterator[plans.StepBinding]:
    """The bindings of each step: its selectors, and the stores of its artifacts."""
    for step in workflow.steps:
        for name in step.combinations or [step.name]:
            for bound in (*(bindings[step.name][item.name] for item in step.extensions), *run.stores_of.get(name, ())):
                yield plans.StepBinding(step=name, binding=bound)
    for name, found in run.copies.bindings.items():
        for bound in found:
            yield plans.StepBinding(step=name, binding=bound)


def _check_bindings(workflow: workflows.Workflow, bindings: Bindings) -> None:
    missing = [
        f"{step.name}/{requirement.name}"
        for step in workflow.steps
        for requirement in step.extensions
        if requirement.name not in bindings.get(step.name, {})
    ]
    if missing:
        raise errors.UnresolvedError(f"these extensions were not resolved: {', '.join(missing)}", details={"unresolved": missing})


class _Run:
    """The state of planning that belongs to the whole run. `problems` collects faults that only the values of this run reveal."""

    def __init__(
        self,
        workflow: workflows.Workflow,
        project: str,
        name: str,
        namespace: str,
        codesets: Mapping[str, CodesetVersion],
        inputs: Mapping[str, str],
        bindings: Bindings,
        stores: artifact_planning.Stores,
    ) -> None:
        self.workflow = workflow
        self.project = project
        self.name = name
        self.namespace = namespace
        self.codesets = codesets
        self.inputs = inputs
        self.problems: list[errors.Problem] = []
        self.places = artifact_planning.Places(workflow, stores)
        self.copies = conversions.Conversions(
            taken={name for step in workflow.steps for name in (step.name, *step.combinations)},
            last={step.name: step.last for step in workflow.steps},
            store=lambda binding, step: artifact_planning.store(binding, self.bound(binding, step)),
        )
        self.stores_of: dict[str, list[selector.Binding]] = {}
        self.needs_git = any(mount.git for step in workflow.steps for mount in step.mounts)
        self._texts: dict[str, plans.Value] = {}
        self.planners = {
            step.name: _StepPlanner(self, index, step, scope, bindings.get(step.name, {}))
            for index, (step, scope) in enumerate(references.scopes(workflow))
        }

    def problem(self, path: document.Path, message: str, suggestion: str | None = None) -> None:
        """Note a fault at the path of the document, once for all combinations of a step."""
        problem = errors.Problem(document.render_path(path), message, suggestion=suggestion)
        if problem not in self.problems:
            self.problems.append(problem)

    def text(self, text: str) -> plans.Value:
        """A value of one text. Steps repeat values of each other, and a part costs more than a look-up."""
        if text not in self._texts:
            self._texts[text] = plans.text(text)
        return self._texts[text]

    def output(self, step: str, output: str) -> plans.Value:
        """The value of a reference to an output: the name of the image that is built, or else the text that the step will write."""
        return self.planners[step].image_of(output) or (plans.OutputPart(step=step, output=output),)

    def bound(self, binding: selector.Binding, step: str) -> dict[str, plans.Value]:
        """The variables of a binding for a step."""
        return variables_of(binding, step, self.text)


class _StepPlanner:
    """Plans one step, or one combination of its matrix under a name of its own, and collects the steps that it waits for."""

    def __init__(
        self,
        run: _Run,
        index: int,
        step: workflows.Step,
        scope: expression.Scope,
        bindings: Mapping[str, selector.Binding],
        name: str = "",
        combination: plans.Combination | None = None,
    ) -> None:
        self._run = run
        self._index = index
        self._step = step
        self._scope = scope
        self._bindings = bindings
        self._name = name or step.name
        self._combination = combination
        self._waits = dict.fromkeys(step.needs)

    def all(self) -> Iterator[plans.StepPlan]:
        """The step; with a matrix, each combination and the step that ranks them."""
        step = self._step
        if step.matrix is None:
            yield self.plan()
            return
        best = plans.Best(metric=step.matrix.best.metric, goal=step.matrix.best.goal) if step.matrix.best else None
        named = dict(zip(step.combinations, matrix.combinations(self._matrix(step.matrix)), strict=True))
        for name, values in named.items():
            combination = plans.Combination(step=step.name, values=values, best=best)
            yield _StepPlanner(self._run, self._index, step, self._scope, self._bindings, name, combination).plan()
        if best is not None:
            cache = plans.Caching() if step.cache else None
            outputs = [*(output.name for output in step.outputs), *self._run.places.uris(step.name)]
            yield combinations.ranker(step.name, best, named, outputs, cache)

    def _matrix(self, declared: matrix.Matrix) -> dict[str, list[str]]:
        """The values of the matrix in this run."""
        values = {name: [self._fixed(text) for text in texts] for name, texts in declared.values.items()}
        for name, listed in values.items():
            repeated = next((index for index, value in enumerate(listed) if value in listed[:index]), None)
            if repeated is not None:
                self._problem(("matrix", "values", name, repeated), f"the value {listed[repeated][:100]!r} is repeated")
        return values

    def plan(self) -> plans.StepPlan:
        """The step or the combination, fully resolved."""
        step = self._step
        if step.image == conversions.CONVERTER:
            self._problem(("runnable" if step.runnable else "image",), conversions.NOT_IN_DOCUMENTS)
        checkouts = tuple(self._checkout(index, item.codeset) for index, item in enumerate(step.inputs) if item.codeset)
        artifacts = self._artifacts()
        fetched, collected = list(artifacts.fetches()), list(artifacts.collects())
        self._run.stores_of[self._name] = [
            *(bound.model_copy(update={"name": f"input {part.name}"}) for part, bound in fetched),
            *(bound.model_copy(update={"name": f"output {part.output}"}) for part, bound in collected),
        ]
        own = {name: value for part in fetched for name, value in artifacts.environment(*part).items()}
        planned = plans.StepPlan(
            name=self._name,
            image=self._value(step.image),
            runnable=step.runnable,
            command=tuple(self._value(text) for text in step.command),
            args=tuple(self._value(text) for text in step.args),
            script=self._value(step.script),
            variables=tuple(plans.Variable(name=name, value=value) for name, value in self._variables(checkouts, own).items()),
            files=tuple(self._files()),
            checkouts=checkouts,
            fetches=tuple(part for part, _ in fetched),
            outputs=(*map(self._output, step.outputs), *(plans.Output(name=name) for name in self._run.places.uris(step.name))),
            collects=tuple(part for part, _ in collected),
            when=tuple(self._condition(when) for when in step.when),
            retries=step.retries,
            timeout=step.timeout,
            resources=self._resources(),
            approval=self._approval(step.approval) if step.approval else None,
            cache=plans.Caching(paths=tuple(step.watched)) if step.cache else None,
            combination=self._combination,
            needs=tuple(self._needs(fetched)),  # at the end: the values above add to it
        )
        if both := credential_files.collision([(part.ref, part.path) for part in plans.secret_files(planned)]):
            message = (
                f"the credentials {both[0]} and {both[1]} give the step files that cannot be beside each other; change a path under `files`"
            )
            self._problem(("extensions",), message)
        return planned

    def _needs(self, fetched: Sequence[tuple[plans.Fetch, selector.Binding]]) -> Iterator[str]:
        for name in self._waits:
            yield from self._run.planners[name].last
        copies = self._run.copies.bindings
        yield from dict.fromkeys(
            part.step
            for fetch, _ in fetched
            for part in (*fetch.uri, *fetch.stored)
            if isinstance(part, plans.OutputPart) and part.step in copies
        )

    @property
    def last(self) -> list[str]:
        """The steps of the plan after which the step has ended."""
        return self._step.last

    def image_of(self, output: str) -> plans.Value:
        """The name of the image of an output; empty for an output that is text."""
        return next((self._value(item.image.name) for item in self._step.outputs if item.name == output and item.image), ())

    def _problem(self, path: document.Path, message: str, suggestion: str | None = None) -> None:
        self._run.problem(("steps", self._index, *path), message, suggestion)

    def _checkout(self, index: int, mount: workflows.CodesetMount) -> plans.Checkout:
        name = references.mounted_input(mount, self._scope.inputs)
        version = self._run.codesets[name]
        path = self._fixed(mount.path)
        if not rules.is_checkout_path(path):
            self._problem(("inputs", index, "codeset", "path"), f"{path!r} is not an absolute path below /, such as /project")
        folder = self._fixed(mount.folder)
        if not rules.is_folder(folder):
            self._problem(("inputs", index, "codeset", "folder"), f"{folder!r} is not a folder of the codeset, such as services/churn")
        return plans.Checkout(
            name=name,
            project=version.project,
            codeset=version.codeset,
            url=version.url,
            ref=version.ref,
            commit=version.commit,
            path=path,
            folder="/".join(part for part in folder.split("/") if part not in ("", ".")),
            git=self._run.needs_git,
            own=self._name if self._combination else "",
        )

    def _resources(self) -> plans.Resources:
        declared = self._step.resources
        requests, limits = ({name: self._fixed(text) for name, text in items.items()} for items in (declared.requests, declared.limits))
        for place, message in resources.faults(requests, limits):
            self._problem(("resources", *place), message)
        return plans.Resources(requests=requests, limits=limits)

    def _output(self, output: workflows.StepOutput) -> plans.Output:
        image = output.image and plans.ImageBuild(name=self._value(output.image.name), dockerfile=self._value(output.image.dockerfile))
        return plans.Output(name=output.name, image=image, type=output.type if output.type in scalars.TYPES else "")

    def _files(self) -> Iterator[plans.File]:
        for item in self._step.inputs:
            if item.file and item.value is not None:
                yield plans.File(name=item.name, variable=references.variable(item.name), text=self._fixed(item.value))

    def _approval(self, approval: workflows.Approval) -> plans.Approval:
        conditions = tuple(self._condition(when) for when in approval.when)
        return plans.Approval(message=self._value(approval.message), when=conditions, expires=approval.expires)

    def _condition(self, when: workflows.When) -> plans.Condition:
        return plans.Condition(
            input=self._value(when.input), operator=when.operator, values=tuple(self._value(text) for text in when.values)
        )

    def _artifacts(self) -> artifact_planning.StepArtifacts:
        return artifact_planning.StepArtifacts(
            step=self._step,
            name=self._name,
            scope=self._scope,
            places=self._run.places,
            value=self._value,
            fixed=self._fixed,
            variables=self._bound,
            problem=self._problem,
            copies=self._run.copies,
        )

    def _bound(self, binding: selector.Binding) -> dict[str, plans.Value]:
        """The variables of a binding."""
        return self._run.bound(binding, self._name)

    def _variables(self, checkouts: Sequence[plans.Checkout], artifacts: Mapping[str, plans.Value]) -> dict[str, plans.Value]:
        """The step's environment. A later source overrides an earlier one (infra/platform-facts.md 6.4); the first one gives the position."""
        step = self._step
        variables = {
            references.variable(item.name): self._value(item.value) for item in step.inputs if item.value is not None and not item.file
        }
        variables |= artifacts
        written = [output.name for output in step.outputs if not output.image and not output.artifact]
        if written:
            variables["TASK_RESULT"] = self._run.text(written[0])
        variables |= {name: self._run.text(value) for name, value in self._identity(checkouts).items()}
        for requirement in step.extensions:
            variables |= serving_access.variables(self._bindings[requirement.name])
            variables |= self._bound(self._bindings[requirement.name])
        variables |= {variable.name: self._value(variable.value) for variable in step.env}
        return variables

    def _identity(self, checkouts: Sequence[plans.Checkout]) -> dict[str, str]:
        """The variables with the namespace, the run and the code of the step (step contract)."""
        run = self._run
        codeset = checkouts[0] if checkouts else next((run.codesets[name] for name in run_inputs.codesets(run.workflow)), None)
        variables = {
            "FUSEML_ENV_WORKFLOW_NAMESPACE": run.namespace,
            "FUSEML_ENV_WORKFLOW_NAME": run.workflow.name,
            plans.RUN_VARIABLE: run.name,
            "FUSEML_ENV_STEP": self._step.name,
            "FUSEML_ENV_PROJECT": codeset.project if codeset else run.project,
        }
        if codeset:
            variables |= {"FUSEML_ENV_CODESET": codeset.codeset, plans.COMMIT_VARIABLE: codeset.commit}
        return variables | ({"FUSEML_ENV_FOLDER": checkouts[0].folder} if checkouts and checkouts[0].folder else {})

    def _fixed(self, text: str) -> str:
        """The text of a value that must be known before the run. Raises InvalidError for one that is not (the rules refuse it earlier)."""
        value = self._value(text)
        if not all(isinstance(part, plans.TextPart) for part in value):
            raise errors.InvalidError(f"step {self._step.name!r}: {text!r} must be known before the run starts")
        return "".join(part.text for part in value if isinstance(part, plans.TextPart))

    def _value(self, text: str) -> plans.Value:
        if not expression.may_refer(text):
            return self._run.text(text)
        parts: list[plans.Part] = []
        for node in expression.parse(text, self._scope.knows):
            for part in self._parts(node):
                before = parts[-1] if parts else None
                if isinstance(part, plans.TextPart) and isinstance(before, plans.TextPart):
                    parts[-1] = plans.TextPart(text=before.text + part.text)
                else:
                    parts.append(part)
        return tuple(parts)

    def _parts(self, node: expression.Node) -> plans.Value:
        if isinstance(node, expression.Literal):
            return self._run.text(node.text)
        refusal = self._scope.refusal(node)
        if refusal:
            raise errors.InvalidError(f"step {self._step.name!r}: {refusal}", [refusal])
        if isinstance(node, expression.OutputReference):
            self._waits[node.step] = None
            return self._run.output(node.step, node.output)
        if isinstance(node, expression.InputReference):
            if node.attribute is None:
                return self._run.text(self._run.inputs[node.name])
            version = self._run.codesets[node.name]
            return self._run.text({"name": version.codeset, "project": version.project, "version": version.commit}[node.attribute])
        if isinstance(node, expression.MatrixReference):
            if self._combination is None:
                raise errors.InvalidError(f"step {self._step.name!r}: {node} has a value in its combinations only")
            return self._run.text(self._combination.values[node.name])
        binding = self._bindings[node.selector]
        return self._configured(binding, node.key) if node.key is not None else self._run.text(getattr(binding, node.attribute))

    def _configured(self, binding: selector.Binding, key: str) -> plans.Value:
        known = self._bound(binding)
        if key in known:
            return known[key]
        keys = sorted({*binding.configuration, *binding.secret_keys})
        listed = f"it has {', '.join(keys)}" if keys else "it has no configuration"
        message = f"extension {binding.name!r} resolved to {binding.extension_id}/{binding.service_id}, which has no {key!r}; {listed}"
        self._problem(("extensions",), message, document.nearest(key, keys))
        return ()
