"""The built-in steps: each is a process of its own, started in a codeset's checkout, in an environment that may lack the rest of FuseML.

So this package imports only the standard library, PyYAML and MLflow's dependencies. The builder copies it into every environment, which
brings the trainer and the model server there; it therefore supports Python 3.10.
"""
