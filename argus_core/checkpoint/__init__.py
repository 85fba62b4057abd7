"""What a checkpoint is: what it keeps of a model and of a run, and how that is put back."""
