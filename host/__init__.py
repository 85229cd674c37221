"""Compiler, devices, sessions, reports and the command line."""
