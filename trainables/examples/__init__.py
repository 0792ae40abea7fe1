"""Trainables to start from, on real data that comes with scikit-learn, Python or one more package: no downloads."""
