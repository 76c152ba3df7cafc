import sys

import mlflow
import mlflow.sklearn
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_squared_error

if __name__ == "__main__":
    np.random.seed(40)
    data = load_diabetes(as_frame=True).frame
    x, y = data[["bmi", "bp", "s5"]], data[["target"]]
    alpha = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    l1_ratio = float(sys.argv[2]) if len(sys.argv) > 2 else 0.5
    with mlflow.start_run():
        lr = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, random_state=42)
        lr.fit(x, y)
        predicted = lr.predict(x)
        mlflow.log_param("alpha", alpha)
        mlflow.log_param("l1_ratio", l1_ratio)
        mlflow.log_metric("rmse", np.sqrt(mean_squared_error(y, predicted)))
        mlflow.log_metric("l1_ratio", l1_ratio)
        signature = mlflow.models.infer_signature(x, predicted)
        mlflow.sklearn.log_model(
            lr, name="model", signature=signature, registered_model_name="ElasticnetWine", pip_requirements=["scikit-learn"]
        )
