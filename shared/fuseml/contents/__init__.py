"""Where the contents of artifacts live. FuseML keeps descriptors; stores like MLflow keep the contents."""
