"""`python -m sweeps`, the same as `sweeps`: the form that a Ray job uses."""

from sweeps.cli import main

if __name__ == "__main__":
    main()
