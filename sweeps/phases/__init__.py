"""The phases of a sweep, one module each: `run(engine, phase)` carries one out, from its space to its end."""
