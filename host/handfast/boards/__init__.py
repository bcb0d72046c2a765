"""Boards: definitions, the simulator's builder, the serial link, provisioning."""
