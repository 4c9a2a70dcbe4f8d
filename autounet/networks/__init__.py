"""Networks: from the numbers of a NetworkSpec to a torch module, and what a network costs without building it."""
