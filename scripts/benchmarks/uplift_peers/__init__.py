"""Other people's uplift models on the same tables: how they are specified, run and measured."""
