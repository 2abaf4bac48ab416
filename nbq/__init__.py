"""nbq: a cluster in your notebook."""
