import mlflow
import numpy as np
from sklearn.dummy import DummyRegressor

mlflow.set_experiment("my experiment")
x = np.array([[0.0], [1.0]])
with mlflow.start_run(run_name="mine"):
    model = DummyRegressor(strategy="constant", constant=5.0).fit(x, [0.0, 1.0])
    mlflow.log_metric("answer", 5)
    signature = mlflow.models.infer_signature(x, model.predict(x))
    mlflow.sklearn.log_model(model, name="model", signature=signature, pip_requirements=["scikit-learn"])
