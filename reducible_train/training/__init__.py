"""A fit with falling ranks: who acts, when, and what else takes part."""
