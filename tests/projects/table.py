"""The kinds of repositories, and what FuseML does with each of them. `docs/projects.md` shows this table; a test holds both equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CODESETS = Path(__file__).parent / "codesets"


@dataclass(frozen=True)
class Project:
    """A codeset. `inputs` are those of its steps, `folder` its folder in the codeset, `metrics` some of the outcome, `model` its URI's beginning.

    A codeset that is refused has a `cause` instead. `heavy` ones need packages from the network: `task projects` runs them.
    """

    name: str
    repository: str
    runs: str
    served: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: str = "models:/m-"
    cause: str = ""
    heavy: bool = False

    @property
    def row(self) -> str:
        """The row of the documentation's table."""
        given = ", ".join(f"`{name}: {value}`" for name, value in self.inputs.items()) or "none"
        where = f"; `folder: {self.folder}`" if self.folder else ""
        return f"| {self.repository} | {given}{where} | {self.runs} | {self.served} |"


HEADER = "| repository | inputs of the steps | program | model |\n|---|---|---|---|\n"

PROJECTS = (
    Project(
        "mlproject-python-env",
        "`MLproject` with `python_env`",
        "its entry point `main`, with the declared parameter",
        "the only one",
        {"parameters": "alpha=0.5"},
        metrics={"alpha": 0.5},
    ),
    Project(
        "mlproject-conda",
        "`MLproject` with `conda_env`",
        "`main`, other parameters by default",
        "the registered one",
        {"parameters": "l1_ratio=0.25"},
        metrics={"l1_ratio": 0.25},
        model="models:/ElasticnetWine/1",
    ),
    Project(
        "plain-script",
        "`train.py` and `requirements.txt`",
        "`python train.py`, parameters as `--name value`",
        "the only one",
        {"parameters": "alpha=2"},
        metrics={"alpha": 2.0},
    ),
    Project("script-only", "only `train.py`", "`python train.py`", "the only one", metrics={"answer": 7.0}),
    Project(
        "pyproject",
        "`pyproject.toml` (PEP 621)",
        "the command",
        "the registered one",
        {"entrypoint": "PYTHONPATH=src python -m churn.fit", "parameters": "rounds=500"},
        metrics={"rounds": 500.0},
        model="models:/churn/1",
    ),
    Project("poetry", "`pyproject.toml` of poetry", "`python train.py`", "the only one", metrics={"alpha": 0.1}, heavy=True),
    Project(
        "shell-script",
        "a shell script",
        "`bash train.sh`, parameters as `--name value`",
        "the only one",
        {"entrypoint": "train.sh", "parameters": "alpha=3"},
        metrics={"alpha": 3.0},
    ),
    Project("pipfile", "`Pipfile`", "`python train.py`", "the only one", metrics={"alpha": 0.1}, heavy=True),
    Project("setup-py", "`setup.py`", "`python train.py`", "the only one", metrics={"alpha": 0.1}, heavy=True),
    Project(
        "monorepo",
        "a sub-folder of a monorepo",
        "the `MLproject` of the folder; files above it are there",
        "the only one",
        folder="services/churn",
        metrics={"columns": 2.0},
    ),
    Project(
        "multi-step",
        "`MLproject` whose `main` calls `mlflow.run`",
        "its entry point `main`",
        "the only one of all runs below",
        {"parameters": "alpha=0.75"},
        metrics={"alpha": 0.75},
    ),
    Project(
        "nested-runs",
        "nested runs, a model in each",
        "`python train.py`",
        "the best by the metric",
        {"metric": "max:r2"},
        metrics={"alpha": 0.1},
    ),
    Project(
        "loop-of-runs",
        "`start_run` in a loop, a model in each run",
        "`python train.py`",
        "the best by the metric",
        {"metric": "min:loss"},
        metrics={"answer": 2.0, "loss": 0.0},
    ),
    Project(
        "several-models",
        "several models in one run",
        "`python train.py`",
        "the one that the input names",
        {"model": "regressor"},
        metrics={"features": 2.0},
    ),
    Project("custom-pyfunc", "a class of its own (`code_paths`)", "`python train.py`", "the only one", metrics={"rules": 1.0}),
    Project(
        "own-experiment",
        "code that calls `set_experiment`",
        "`python train.py`, in the experiment that the code sets",
        "the only one",
        metrics={"answer": 5.0},
    ),
    Project(
        "artifact-folder",
        "a model in an artifact folder",
        "its only entry point",
        "the folder that the input names",
        {"mlflow-artifact-path": "fitted"},
        metrics={"answer": 4.0},
        model="mlflow-artifacts:/",
    ),
    Project(
        "notebook",
        "a notebook",
        "papermill, parameters in the cell with the tag `parameters`",
        "the only one",
        {"parameters": "alpha=0.5"},
        metrics={"alpha": 0.5},
        heavy=True,
    ),
    Project(
        "dvc",
        "`dvc.yaml` and `params.yaml`",
        "`dvc repro`, parameters as keys of `params.yaml`",
        "the only one",
        {"parameters": "train.alpha=0.5"},
        metrics={"alpha": 0.5},
        heavy=True,
    ),
    Project(
        "dvc-data",
        "data in a DVC remote (`data/rows.csv.dvc`)",
        "`python train.py`, after `dvc pull` of the named files",
        "the only one",
        {"data": "data/rows.csv"},
        metrics={"rows": 4.0},
        heavy=True,
    ),
    Project(
        "xgboost",
        "XGBoost",
        "`python train.py`, parameters as `--name value`",
        "the only one",
        {"parameters": "rounds=5"},
        metrics={"rounds": 5.0},
        heavy=True,
    ),
    Project("lightgbm", "LightGBM", "`python train.py`", "the only one", metrics={"trees": 20.0}, heavy=True),
    Project(
        "ambiguous",
        "`train.py` and a notebook, no `MLproject`",
        "refused with the list, until `entrypoint` names one",
        "none",
        cause="the codeset has no MLproject, and several programs: explore.ipynb, train.py: name one in the step input 'entrypoint'",
    ),
)
