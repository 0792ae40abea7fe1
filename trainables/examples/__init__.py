"""Trainables to start from, on data that comes with scikit-learn: nothing is downloaded."""
