import argparse

import mlflow
import xgboost
from sklearn.datasets import load_diabetes

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=20)
rounds = parser.parse_args().rounds

x, y = load_diabetes(return_X_y=True, as_frame=True)
x = x[["bmi", "bp", "s5"]]
with mlflow.start_run():
    model = xgboost.train({"max_depth": 3}, xgboost.DMatrix(x, label=y), num_boost_round=rounds)
    mlflow.log_metric("rounds", rounds)
    mlflow.xgboost.log_model(model, name="model", signature=mlflow.models.infer_signature(x, y), pip_requirements=["xgboost"])
