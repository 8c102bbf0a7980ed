"""What was done, as records: plain values that are kept in files."""
