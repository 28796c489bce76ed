"""One module per step of the workflow; a function of the same name reads, computes, writes."""
