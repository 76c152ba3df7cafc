"""The built-in steps: each is a process of its own, started in a codeset's checkout, in an environment that may hold nothing of ours.

So nothing here imports the rest of fuseml: the standard library, PyYAML and what MLflow brings must do. The builder copies this
package into every environment that it makes, which is how the trainer and the model server come to be there; it therefore
keeps to what Python 3.10 understands.
"""
