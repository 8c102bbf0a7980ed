"""Change one live model, all or nothing."""
