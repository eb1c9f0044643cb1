"""Launch, schema, checks, build, run: the only place that knows Hydra. It knows no family's name."""
