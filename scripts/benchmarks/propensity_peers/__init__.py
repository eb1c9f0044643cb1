"""Peers of the propensity family: LightGBM, scikit-learn, BG/NBD with Gamma-Gamma, in an environment of their own."""
