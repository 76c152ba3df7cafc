import mlflow
import pandas
from sklearn.linear_model import LinearRegression

rows = pandas.read_csv("data/rows.csv")
x, y = rows[["a", "b"]].astype(float), rows["y"].astype(float)
with mlflow.start_run():
    model = LinearRegression().fit(x, y)
    mlflow.log_metric("rows", len(rows))
    mlflow.sklearn.log_model(model, name="model", signature=mlflow.models.infer_signature(x, y), pip_requirements=["scikit-learn"])
