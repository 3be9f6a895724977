"""Tasks over one version: what they change in its products, and how their batches are planned."""
