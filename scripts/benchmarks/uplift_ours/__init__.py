"""The uplift family of this repository beside its peers: see `uplift.py` beside this folder."""
