"""Wire formats of webhooks: signatures and bodies of Gitea, GitHub and MLflow. Pure functions, no I/O."""
