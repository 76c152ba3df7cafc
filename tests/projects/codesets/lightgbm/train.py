import lightgbm
import mlflow
from sklearn.datasets import load_diabetes

x, y = load_diabetes(return_X_y=True, as_frame=True)
x = x[["bmi", "bp", "s5"]]
with mlflow.start_run():
    model = lightgbm.train({"objective": "regression", "verbosity": -1}, lightgbm.Dataset(x, label=y), num_boost_round=20)
    mlflow.log_metric("trees", model.num_trees())
    mlflow.lightgbm.log_model(model, name="model", signature=mlflow.models.infer_signature(x, y), pip_requirements=["lightgbm"])
