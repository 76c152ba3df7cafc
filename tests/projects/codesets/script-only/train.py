"""No dependency file, no arguments, no run: MLflow starts one."""

import mlflow
import numpy as np
from sklearn.dummy import DummyRegressor

x = np.array([[0.0], [1.0], [2.0]])
model = DummyRegressor(strategy="constant", constant=7.0).fit(x, [1.0, 2.0, 3.0])
mlflow.log_metric("answer", 7)
mlflow.sklearn.log_model(
    model, name="model", signature=mlflow.models.infer_signature(x, model.predict(x)), pip_requirements=["scikit-learn"]
)
