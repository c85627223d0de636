"""What is decided about an event, given states and a model: engine, rules, reasons. No input or output, no torch."""
