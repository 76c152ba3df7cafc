"""The built-in steps: each is a process of its own, started in a codeset's checkout, in an environment that may lack the rest of FuseML.

So this package imports only the standard library, PyYAML and MLflow's dependencies, and in the builder uv and Poetry's library. The builder
copies the modules of the trainer and the model server into every environment (`carried`), where they run on Python 3.8 and newer.
"""
