import argparse

import mlflow
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=0.1)
args = parser.parse_args()

x, y = load_diabetes(return_X_y=True, as_frame=True)
with mlflow.start_run():
    model = Ridge(alpha=args.alpha).fit(x[["bmi", "bp"]], y)
    mlflow.log_param("alpha", args.alpha)
    mlflow.log_metric("alpha", args.alpha)
    signature = mlflow.models.infer_signature(x[["bmi", "bp"]], y)
    mlflow.sklearn.log_model(model, name="model", signature=signature, pip_requirements=["scikit-learn"])
