import sys

import mlflow
from features import columns
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

x, y = load_diabetes(return_X_y=True, as_frame=True)
x = x[columns()]
with mlflow.start_run(run_name="churn"):
    model = LinearRegression(fit_intercept=sys.argv[1] == "true").fit(x, y)
    mlflow.log_metric("columns", len(x.columns))
    mlflow.sklearn.log_model(model, name="model", signature=mlflow.models.infer_signature(x, y), pip_requirements=["scikit-learn"])
