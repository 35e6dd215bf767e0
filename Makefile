# On Linux and macOS:
#   make demo    run the whole way on rendered scenes and print the table
#   make test    lint, check types and run the tests
#   make lint    lint and check types alone
#   make trtcheck    add NVIDIA's ONNX parser (146 MB; Linux on x86-64), which tests then use
# Each makes .venv when it is missing; a second run installs nothing. README.md has the PowerShell lines.
#
# PYTHON=python3.12 names another Python.
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch's small CPU build in place of the one for CUDA,
# which pip chooses on Linux and which is several GB large.

PYTHON ?= python3
TORCH_INDEX ?=
OUT ?= demo-run

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TRTCHECK_STAMP := $(VENV)/.trtcheck

.PHONY: demo test lint trtcheck

demo: $(STAMP)
	$(BIN)/slimdeploy demo --out $(OUT)

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

trtcheck: $(TRTCHECK_STAMP)

$(TRTCHECK_STAMP): $(STAMP)
	$(BIN)/python -m pip install -e ".[trtcheck]"
	@touch $@

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; do: apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "$(PYTHON) is too old; wanted: Python 3.10 or newer; do: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments; do: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install --index-url $(TORCH_INDEX) "torch>=2.6" "torchvision>=0.21"
endif
	$(BIN)/python -m pip install -e ".[dev]"
# opencv-python, which ultralytics asks for, loads libGL and glib, which a bare Debian lacks; the headless build does not.
	@$(BIN)/python -c 'import cv2' 2>/dev/null || \
	    $(BIN)/python -m pip install --force-reinstall --no-deps "opencv-python-headless>=4.8"
	@touch $(STAMP)
