"""Networks by config, for examples and for users who need no network of their own."""
