"""Engines draw primitives into memory that the caller owns. They know no catalog format, no order, no training."""
