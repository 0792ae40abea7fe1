"""What one trial does: data, model, loop. Knows torch and paths, knows nothing of Ray, MLflow or sweeps."""
