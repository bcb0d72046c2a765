"""Where boards and gateway meet: the demo and, later, the pytest plugin."""
