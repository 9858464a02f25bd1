"""Packaged recipes, one TOML file each; the header of each says its source, the kappa to expect and the cost."""
