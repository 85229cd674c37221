# The same without make: python3 run.py TARGET
PYTHON ?= python3

.PHONY: demo test test-long lint bench figures setup
demo test test-long lint bench figures setup:
	@$(PYTHON) run.py $@
