"""The end of the way: what a person reads of a sweep. Everything here reads History and computes nothing anew."""
