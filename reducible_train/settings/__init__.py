"""Everything a user can ask for, as frozen values; no Keras."""
