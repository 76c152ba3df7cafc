"""Each step is an MLflow run of its own below the run of this one, as in MLflow's multistep example."""

import argparse

import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float)
alpha = parser.parse_args().alpha

with mlflow.start_run():
    loaded = mlflow.run(".", "load", env_manager="local")
    data = mlflow.artifacts.download_artifacts(run_id=loaded.run_id, artifact_path="data.csv")
    mlflow.run(".", "train", parameters={"data": data, "alpha": alpha}, env_manager="local")
