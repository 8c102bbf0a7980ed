"""What kernels cost: counted, in the compact file, or in time."""
