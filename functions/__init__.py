"""The deployable functions, one folder each. They never import one another; events and HTTP connect them."""
