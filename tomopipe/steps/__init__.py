"""One module per step of the workflow; a function named like the step reads, computes and writes."""
