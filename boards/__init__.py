"""One thin file a board: pins, clocks, which chip fits. Verilator is a board too."""
