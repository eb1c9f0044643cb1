"""Building blocks that two or more families use. Nothing here imports the rest of the framework."""
