"""The chip in Amaranth: one file a component. Knows no board, no model and no host."""
