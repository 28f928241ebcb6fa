"""What matching methods share: class means of features, gradients and their distance, inner training."""
