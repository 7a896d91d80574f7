"""The story of one payment, across features."""
