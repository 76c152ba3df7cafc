import mlflow
import pandas
from rules import tariff


class Tariff(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [tariff.price(row.weight, row.express) for row in model_input.itertuples()]


rows = pandas.DataFrame({"weight": [1.0, 2.0], "express": [True, False]})
with mlflow.start_run():
    mlflow.log_metric("rules", 1)
    signature = mlflow.models.infer_signature(rows, [3.0, 5.0])
    mlflow.pyfunc.log_model(name="tariff", python_model=Tariff(), code_paths=["rules"], signature=signature, pip_requirements=["mlflow"])
