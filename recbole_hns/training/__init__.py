"""From a batch to a trained model: the step, the trainer and its checkpoints."""
