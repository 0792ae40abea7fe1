"""What the journal shows: rankings at one fidelity, curves, verdicts. Pure functions of History: no Ray, no files."""
