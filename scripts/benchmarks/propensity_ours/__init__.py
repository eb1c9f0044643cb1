"""Our side of the propensity benchmark: tasks, fits and tables."""
