PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-slow lint docs dist model clean

demo: $(STAMP)
	$(BIN)/mmg-diffusers demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The site, in site/. A warning is a fault, as is a link that leads nowhere, or anything that would be fetched.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python scripts/site/check.py site

# Wheel and source distribution in dist/, tried in an environment of their own. REPOSITORY=https://... makes the README's links absolute.
dist: $(STAMP)
	$(BIN)/python scripts/dist.py $(if $(REPOSITORY),--repository $(REPOSITORY))

# Trains the shipped model anew (some five hours on two cores, by the times in its card) and puts it into the package.
model: $(STAMP)
	$(BIN)/python scripts/train_shapes.py runs/shapes
	cp -r runs/shapes/model/. mmg_diffusers/models/shapes/

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist site *.egg-info
