"""Linear algebra on the host: spectra, truncation, stacks, moments; numpy only."""
