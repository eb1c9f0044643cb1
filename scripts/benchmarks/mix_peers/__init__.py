"""Other people's marketing mix models on the same panels: how they are specified, run and measured."""
