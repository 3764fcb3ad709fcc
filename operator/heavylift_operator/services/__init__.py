"""What the operator does all the time; each loop is level-triggered and harmless when run twice."""
