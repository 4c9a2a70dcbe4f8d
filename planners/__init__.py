"""Planning: a dataset becomes a fingerprint, a fingerprint becomes a plan."""
