import argparse

import mlflow
import pandas
from sklearn.linear_model import Ridge

parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--alpha", type=float)
args = parser.parse_args()

frame = pandas.read_csv(args.data)
x, y = frame[["bmi", "bp"]], frame["target"]
with mlflow.start_run():
    model = Ridge(alpha=args.alpha).fit(x, y)
    mlflow.log_metric("alpha", args.alpha)
    mlflow.sklearn.log_model(model, name="ridge", signature=mlflow.models.infer_signature(x, y), pip_requirements=["scikit-learn"])
