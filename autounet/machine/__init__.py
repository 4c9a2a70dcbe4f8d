"""What a machine can do and what is wrong with it: facts, each with a time limit; a short training and prediction; advice."""
