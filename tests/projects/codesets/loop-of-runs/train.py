import mlflow
import numpy as np
from sklearn.dummy import DummyRegressor

x = np.array([[0.0], [1.0]])
for answer in (1.0, 2.0, 3.0):
    with mlflow.start_run():
        model = DummyRegressor(strategy="constant", constant=answer).fit(x, [0.0, 1.0])
        mlflow.log_metric("loss", abs(answer - 2.0))
        mlflow.log_metric("answer", answer)
        signature = mlflow.models.infer_signature(x, model.predict(x))
        mlflow.sklearn.log_model(model, name="model", signature=signature, pip_requirements=["scikit-learn"])
