from setuptools import setup

setup(name="scoring", version="0.1", py_modules=["train"], install_requires=["mlflow", "scikit-learn"])
