"""Data sources: one file each, yielding a typed batch through a LightningDataModule."""
