import json
from pathlib import Path

import mlflow
import pandas
import yaml
from sklearn.linear_model import Ridge

alpha = yaml.safe_load(Path("params.yaml").read_text())["train"]["alpha"]
rows = pandas.read_csv("data/rows.csv")
x, y = rows[["bmi", "bp"]], rows["target"]
with mlflow.start_run():
    model = Ridge(alpha=alpha).fit(x, y)
    mlflow.log_metric("alpha", alpha)
    mlflow.sklearn.log_model(model, name="model", signature=mlflow.models.infer_signature(x, y), pip_requirements=["scikit-learn"])
Path("metrics.json").write_text(json.dumps({"score": model.score(x, y)}))
