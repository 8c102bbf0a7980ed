"""What TensorBoard is told: it listens to reports."""
