"""From the splits that a trainable gives to rows by index, in an order that is ours."""
