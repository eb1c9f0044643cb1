"""Seeded generators with known truth: the whole framework runs and is judged without a download."""
