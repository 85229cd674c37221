"""The bit-exact numpy model: one file beside each component of `rtl`, with the same name."""
