"""Saves the model to a folder and logs the folder, as code from before `log_model` does."""

import tempfile

import mlflow
import numpy as np
from sklearn.dummy import DummyRegressor

x = np.array([[0.0], [1.0]])
model = DummyRegressor(strategy="constant", constant=4.0).fit(x, [0.0, 1.0])
with mlflow.start_run(), tempfile.TemporaryDirectory() as folder:
    signature = mlflow.models.infer_signature(x, model.predict(x))
    mlflow.sklearn.save_model(model, f"{folder}/model", signature=signature, pip_requirements=["scikit-learn"])
    mlflow.log_artifacts(f"{folder}/model", "fitted")
    mlflow.log_metric("answer", 4)
